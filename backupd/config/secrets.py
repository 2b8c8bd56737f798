"""References to secrets, which the configuration names but never contains: a file, or a systemd credential."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from backupd.config.toml_lines import KeyPath
from backupd.errors import ConfigError

_CREDENTIAL = "credential:"
_FOLDER = "backupd_"
"""The prefix that systemd gives to a folder's files, as our units load it (`LoadCredential=backupd:FOLDER`)."""
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
"""Narrower than systemd's rule: no slash and no leading dot, so that a name cannot leave the credentials directory."""
_SECRET_KEY = re.compile(r"(?i)(ssl)?(pass(word|wd|phrase)?|secret(_key)?|private_key|token|pgpassword|api_key)")
_SECRET_TEXT = (
    re.compile(r"(?i)\b(?:ssl)?password\s*="),
    re.compile(r"[A-Za-z]://[^/\s:@]*:[^@/\s]+@"),
    re.compile(r"-----BEGIN [A-Z ]+-----"),
    re.compile(r"AGE-SECRET-KEY-"),
    re.compile(r"\"(?:sealed|backupd)\"\s*:"),
)


@dataclass(frozen=True, slots=True)
class FileRef:
    """An absolute path, or `credential:NAME` for a file that systemd puts into $CREDENTIALS_DIRECTORY."""

    text: str

    @property
    def is_credential(self) -> bool:
        """True for a systemd credential, False for a path."""
        return self.text.startswith(_CREDENTIAL)

    @property
    def credential_name(self) -> str:
        """The name without `credential:`; for a path, the path."""
        return self.text.removeprefix(_CREDENTIAL)

    def is_given(self, environ: Mapping[str, str]) -> bool:
        """Check whether this process was given the file: each unit has its own credentials; paths are for everybody."""
        if not self.is_credential:
            return True
        return bool(environ.get("CREDENTIALS_DIRECTORY")) and os.access(self.resolve(environ), os.F_OK)

    def resolve(self, environ: Mapping[str, str]) -> Path:
        """Return the path of the file: NAME, or `backupd_NAME` where only that exists.

        Raises ConfigError for a credential when the process was not given a credentials directory.
        """
        if not self.is_credential:
            return Path(self.text)
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            raise ConfigError(
                f'credential "{self.text.removeprefix(_CREDENTIAL)}" is not available here',
                hint="systemd hands it to units (LoadCredential=); by hand, CREDENTIALS_DIRECTORY names its folder.",
            )
        name = self.text.removeprefix(_CREDENTIAL)
        alone, in_folder = Path(directory, name), Path(directory, _FOLDER + name)
        return in_folder if os.access(in_folder, os.F_OK) and not os.access(alone, os.F_OK) else alone


def parse_file_ref(text: str) -> FileRef:
    """Parse an absolute path or `credential:NAME`.

    Raises ValueError with a sentence for people that never repeats `text`, which may be the secret itself.
    """
    if text.startswith(_CREDENTIAL):
        if not _CREDENTIAL_NAME.fullmatch(text.removeprefix(_CREDENTIAL)):
            raise ValueError("is not a credential name; use letters, digits, _ . - and no leading dot")
    elif not PurePosixPath(text).is_absolute() or not text.isprintable():
        raise ValueError("is not a file; write an absolute path, or credential:NAME")
    return FileRef(text)


def inline_secrets(values: Mapping[str, object]) -> Iterator[KeyPath]:
    """Yield every key whose name or text shows that a secret is written in the configuration itself."""
    return _walk((), values)


def _walk(path: KeyPath, value: object) -> Iterator[KeyPath]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            if _SECRET_KEY.fullmatch(name) and not isinstance(below, Mapping):
                yield (*path, name)
            else:
                yield from _walk((*path, name), below)
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from _walk((*path, index), below)
    elif isinstance(value, str) and any(pattern.search(value) for pattern in _SECRET_TEXT):
        yield path
