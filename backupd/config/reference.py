"""The reference of the configuration: every key with type, default and meaning, read from the classes of the schema."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic.fields import FieldInfo

from backupd.config import fields
from backupd.config.fields import ConfigSection
from backupd.config.redact import spell_value
from backupd.config.schema import Config

_PLACES = {"stores": "NAME", "regions": "NAME", "classes": "NAME", "databases": "LABEL"}
"""Tables whose keys people choose, each with the word that represents such a key."""
_WRITTEN: dict[Any, str] = {
    fields.Name: "name",
    fields.RegionLabel: "region",
    fields.Approval: "reference",
    fields.QueryName: "name",
    fields.Host: "host",
    fields.Listen: "address:port",
    fields.User: "user",
    fields.Identifier: "identifier",
    fields.KeyStep: "foreign key",
    fields.TablePattern: "pattern",
    fields.QualifiedTable: "schema.table",
    fields.SignerKey: "public key",
    fields.AbsolutePath: "absolute path",
    fields.RemotePath: "folder",
    fields.SecretFile: "secret file",
    fields.Dsn: "connection string",
    fields.Service: "service",
    fields.SelectStatement: "SELECT",
    fields.TenantPattern: "regular expression",
    fields.HostKey: "host key",
    fields.TimetableText: "timetable",
    fields.Zone: "time zone",
    fields.Share: "share",
    fields.Duration: "duration",
    fields.Size: "size",
    fields.Bandwidth: "bandwidth",
}
_SIZES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1, "B"))


class Key(NamedTuple):
    """One key of the configuration."""

    section: str
    """The purpose of its section, from the first line of the class's docstring."""
    path: str
    """The full name of the key, as in `regions.NAME.retention.daily`."""
    written: str
    """The form of its value: a duration, a list of patterns, one of some words."""
    default: str
    """The default as it would be written; or `required`, or `none`."""
    meaning: str
    field: FieldInfo


def keys(section: type[ConfigSection] = Config, prefix: str = "") -> Iterator[Key]:
    """Yield every key below `section`, in the order in which the classes define them."""
    hints = get_type_hints(section, include_extras=True)
    for name, field in section.model_fields.items():
        path = prefix + (field.alias or name)
        below = [kind for kind in _parts(hints[name]) if issubclass(kind, ConfigSection)]
        for kind in below:
            yield from keys(kind, f"{path}.{_PLACES[name]}." if name in _PLACES else f"{path}.")
        if not below:
            written = _written(hints[name])
            about = (section.__doc__ or "").split("\n")[0]
            yield Key(about, path, written, _default(field, written), field.description or "", field)


def _parts(hint: Any) -> Iterator[type]:
    """Yield the classes that an annotation is made of."""
    if get_origin(hint) in (Annotated, Union, UnionType, dict, tuple):
        for part in get_args(hint):
            yield from _parts(part)
    elif isinstance(hint, type):
        yield hint


def _written(hint: Any) -> str:
    """Describe in a few words how a value of this annotation is written."""
    origin = get_origin(hint)
    if origin is Annotated:
        known = _words().get(id(hint.__metadata__[0]))
        return known or _written(hint.__origin__)
    if origin in (Union, UnionType):
        return " or ".join(_written(part) for part in get_args(hint) if part is not NoneType)
    if origin is tuple:
        return f"list of {_written(get_args(hint)[0])}"
    if origin is Literal:
        return " or ".join(f'"{word}"' for word in get_args(hint))
    if issubclass(hint, Enum):
        return " or ".join(f'"{member.value}"' for member in hint)
    return {bool: "true or false", int: "number", str: "text"}[hint]


@cache
def _words() -> dict[int, str]:
    """Return the word for each named type by its validator's id, which an annotation that adds limits keeps first."""
    return {id(kind.__metadata__[0]): word for kind, word in _WRITTEN.items()}


def _default(field: FieldInfo, written: str) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return "none"
    if written == "bandwidth":
        return '"unlimited"'
    if written == "size":
        unit, name = next((unit, name) for unit, name in _SIZES if value % unit == 0)
        return f'"{value // unit}{name}"'
    if isinstance(value, (bool, int)):
        return str(value).lower()
    return "[]" if value == () else f'"{spell_value(value)}"'
