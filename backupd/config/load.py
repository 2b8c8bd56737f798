"""Reading the configuration: TOML text in, a Config or every fault at once with key path and line out.

Pydantic's findings are put in our words: lower case, with a way to correct them, and never with what was written.

`backupd manual trust`, row *configuration*, says who can write this, and what is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from backupd.config import checks, policy, schema, service
from backupd.config.document import ConfigDocument, ConfigPart, read_document
from backupd.config.faults import ConfigFault, ConfigFaultsError, Finding, in_file_order
from backupd.config.fields import ConfigSection
from backupd.config.schema import Config
from backupd.config.secrets import inline_secrets
from backupd.config.toml_lines import KeyPath
from backupd.model.text import did_you_mean

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

DEFAULT_PATH = Path("/etc/backupd/backupd.toml")
_SECRET = (
    "holds a secret; secrets are never written here",
    "Name a file that holds it (passfile, key, signing_key_file), by absolute path or as credential:NAME.",
)


def config_path(option: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the path of the configuration: `--config`, else BACKUPD_CONFIG, else the packaged place."""
    return option or Path(environ.get("BACKUPD_CONFIG") or DEFAULT_PATH)


def load(path: Path) -> Config:
    """Read the configuration in `path`.

    Raises ConfigError when it cannot be read, ConfigFaultsError with all its faults when it is wrong.
    """
    return parse_document(read_document(path))


def parse(text: str, where: str) -> Config:
    """Parse the configuration in `text`, which includes no other file; `where` names it in errors.

    Raises ConfigFaultsError.
    """
    return parse_document(ConfigDocument(where, (ConfigPart(where, text),)))


def parse_document(document: ConfigDocument) -> Config:
    """Parse a configuration that was read.

    Raises ConfigFaultsError with all faults of all its files.
    """
    raw, places, faults = document.merged()
    secret = list(inline_secrets(raw))
    findings = [(path, *_SECRET) for path in secret]
    config = None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        findings += [finding for finding in map(finding, details, repeat(raw)) if not _within(finding[0], secret)]
    findings += checks.cross_check(raw)
    if config is None or findings or faults:
        raise ConfigFaultsError(document.where, [*faults, *in_file_order(findings, places)])
    return config


def advice(config: Config, document: ConfigDocument) -> list[ConfigFault]:
    """Return what is allowed but could be better in the files from which `config` was parsed."""
    return in_file_order(checks.advice(config), document.merged()[1])


def _within(path: KeyPath, secret: list[KeyPath]) -> bool:
    return any(path[: len(above)] == above for above in secret)


_SENTENCES = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": 'must be a list, as in ["…"]',
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "too_short": "must not be empty",
    "union_tag_not_found": "is required",
}
_KIND_TYPES = ("union_tag_not_found", "union_tag_invalid")
_SHAPES: tuple[tuple[tuple[str, ...], type[ConfigSection]], ...] = (
    ((), schema.Config),
    (("node",), schema.NodeSection),
    (("trust",), schema.Trust),
    (("keeper",), policy.KeeperSection),
    (("daemon",), service.DaemonSection),
    (("schedule",), service.ScheduleSection),
    (("metrics",), service.MetricsSection),
    (("notify",), service.NotifySection),
    (("status",), service.StatusSection),
    (("classes", "*"), schema.ClassSection),
    (("copies", "*"), policy.CopySection),
    (("regions", "*"), schema.RegionSection),
    (("regions", "*", "schedule"), service.RegionScheduleSection),
    (("regions", "*", "hooks"), service.HooksSection),
    (("regions", "*", "retention"), policy.RetentionSection),
    (("regions", "*", "lifecycle"), policy.LifecycleSection),
    (("regions", "*", "lifecycle", "query"), policy.QuerySection),
    (("regions", "*", "databases", "*"), schema.DatabaseSection),
    (("regions", "*", "databases", "*", "tenancy"), schema.TenancySection),
    (("regions", "*", "databases", "*", "tables", "*"), schema.TableSection),
)
"""The sections by their places; `*` is any name or number."""


def finding(details: ErrorDetails, raw: Mapping[str, Any]) -> Finding:
    """Convert one of pydantic's errors about the document `raw` to key path, message and hint."""
    path = _path(details["loc"])
    if details["type"] == "extra_forbidden":
        return path, "unknown key", did_you_mean(str(path[-1]), _known_keys(path[:-1], raw))
    if details["type"] in _KIND_TYPES:
        path = (*path, "kind")
    return path, _sentence(details), ""


def _sentence(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    match details["type"]:
        case "value_error":
            return str(context["error"])
        case "greater_than_equal":
            return f"must be at least {_amount(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {_amount(context['le'])}"
        case "literal_error" | "enum":
            return f"must be {context['expected']}"
        case "union_tag_invalid":
            return f"must be {context['expected_tags'].replace(', ', ' or ')}"
        case other:
            return _SENTENCES.get(other, details["msg"][:1].lower() + details["msg"][1:])


def _amount(limit: int) -> str:
    return f"{limit >> 20}MiB" if limit >= 1 << 20 else str(limit)


def _path(loc: tuple[int | str, ...]) -> KeyPath:
    """Return pydantic's location without what it adds: the tag of a union, the mark of a bad key."""
    parts = [part for part in loc if part != "[key]"]
    if parts[:1] == ["stores"] and len(parts) > 2 and parts[2] in ("sftp", "directory"):
        del parts[2]
    return tuple(parts)


def _known_keys(table: KeyPath, raw: Mapping[str, Any]) -> list[str]:
    section = _section(table, raw)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _section(table: KeyPath, raw: Mapping[str, Any]) -> type[ConfigSection] | None:
    if table[:1] == ("stores",) and len(table) == 2:
        return (
            schema.SftpStoreSection if raw["stores"][table[1]].get("kind") == "sftp" else schema.DirectoryStoreSection
        )
    return next((section for shape, section in _SHAPES if _fits(table, shape)), None)


def _fits(table: KeyPath, shape: tuple[str, ...]) -> bool:
    return len(table) == len(shape) and all(part in ("*", name) for name, part in zip(table, shape, strict=True))
