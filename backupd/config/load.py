"""TOML text -> Config, or every fault at once with key path and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from itertools import repeat
from pathlib import Path

from pydantic import ValidationError

from backupd.config.faults import ConfigFault, ConfigFaultsError, checks, in_file_order, wording
from backupd.config.schema import Config
from backupd.config.text.positions import KeyPath, positions
from backupd.config.text.secrets import inline_secrets
from backupd.errors import ConfigError

DEFAULT_PATH = Path("/etc/backupd/backupd.toml")
MAX_BYTES = 4 << 20
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_SECRET = (
    "holds a secret; secrets are never written here",
    "Name a file that holds it (passfile, key, signing_key_file), by absolute path or as credential:NAME.",
)


def config_path(option: Path | None, environ: Mapping[str, str]) -> Path:
    """`--config`, else BACKUPD_CONFIG, else the packaged place."""
    return option or Path(environ.get("BACKUPD_CONFIG") or DEFAULT_PATH)


def load(path: Path) -> Config:
    """The configuration in `path`.

    Raises ConfigError when it cannot be read, ConfigFaultsError with all its faults when it is wrong.
    """
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Raises ConfigError when `path` is no readable UTF-8 text of at most MAX_BYTES."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f'configuration "{path}" is larger than {MAX_BYTES} bytes')
        return data.decode().replace("\r\n", "\n")
    except FileNotFoundError:
        hint = "Name the file with --config or BACKUPD_CONFIG; `backupd config example` prints a commented one."
        raise ConfigError(f'no configuration at "{path}"', hint=hint) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f'cannot read configuration "{path}": {reason}') from None


def parse(text: str, where: str) -> Config:
    """The configuration in `text`; `where` names it in errors.

    Raises ConfigFaultsError.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigFaultsError(where, [_syntax_fault(str(error))]) from None
    lines = positions(text)
    secret = list(inline_secrets(raw))
    findings = [(path, *_SECRET) for path in secret]
    config = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        findings += [
            finding for finding in map(wording.finding, details, repeat(raw)) if not _within(finding[0], secret)
        ]
    findings += checks.cross_check(raw)
    if config is None or findings:
        raise ConfigFaultsError(where, in_file_order(findings, lines))
    return config


def advice(config: Config, text: str) -> list[ConfigFault]:
    """What is allowed in the file `text` that gave `config`, and better otherwise."""
    return in_file_order(checks.advice(config), positions(text))


def _within(path: KeyPath, secret: list[KeyPath]) -> bool:
    return any(path[: len(above)] == above for above in secret)


def _syntax_fault(text: str) -> ConfigFault:
    """Tomllib's own sentence; it names single characters and keys, never values."""
    match = _TOML_PLACE.search(text)
    line = int(match[1]) if match and match[1] else None
    return ConfigFault("", line, f"is not TOML: {_TOML_PLACE.sub('', text).lower()}")
