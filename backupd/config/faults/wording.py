"""pydantic's findings in our words: lower case, with the way out, and never with what was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from backupd.config import deletion, schema, service, telling
from backupd.config.faults import Finding
from backupd.config.faults.checks import did_you_mean
from backupd.config.section import Section
from backupd.config.text.positions import KeyPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

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
_SHAPES: tuple[tuple[tuple[str, ...], type[Section]], ...] = (
    ((), schema.Config),
    (("node",), schema.NodeSection),
    (("trust",), schema.Trust),
    (("keeper",), deletion.KeeperSection),
    (("daemon",), service.DaemonSection),
    (("schedule",), service.ScheduleSection),
    (("metrics",), telling.MetricsSection),
    (("notify",), telling.NotifySection),
    (("status",), telling.StatusSection),
    (("classes", "*"), schema.ClassSection),
    (("copies", "*"), deletion.CopySection),
    (("regions", "*"), schema.RegionSection),
    (("regions", "*", "schedule"), service.RegionScheduleSection),
    (("regions", "*", "retention"), deletion.RetentionSection),
    (("regions", "*", "lifecycle"), deletion.LifecycleSection),
    (("regions", "*", "lifecycle", "query"), deletion.QuerySection),
    (("regions", "*", "databases", "*"), schema.DatabaseSection),
    (("regions", "*", "databases", "*", "tenancy"), schema.TenancySection),
    (("regions", "*", "databases", "*", "tables", "*"), schema.TableSection),
)
"""Which section stands where; `*` is any name or number."""


def finding(details: ErrorDetails, raw: Mapping[str, Any]) -> Finding:
    """One pydantic error about the document `raw`, as key path, message and hint."""
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
    """Pydantic's location without what it adds: the tag of a union, the mark of a bad key."""
    parts = [part for part in loc if part != "[key]"]
    if parts[:1] == ["stores"] and len(parts) > 2 and parts[2] in ("sftp", "directory"):
        del parts[2]
    return tuple(parts)


def _known_keys(table: KeyPath, raw: Mapping[str, Any]) -> list[str]:
    section = _section(table, raw)
    return [field.alias or name for name, field in section.model_fields.items()] if section else []


def _section(table: KeyPath, raw: Mapping[str, Any]) -> type[Section] | None:
    if table[:1] == ("stores",) and len(table) == 2:
        return (
            schema.SftpStoreSection if raw["stores"][table[1]].get("kind") == "sftp" else schema.DirectoryStoreSection
        )
    return next((section for shape, section in _SHAPES if _fits(table, shape)), None)


def _fits(table: KeyPath, shape: tuple[str, ...]) -> bool:
    return len(table) == len(shape) and all(part in ("*", name) for name, part in zip(table, shape, strict=True))
