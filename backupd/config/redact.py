"""The configuration as it may be shown: without the secret parameters of connection strings."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from backupd.config.fields import spell_duration
from backupd.config.schema import Config
from backupd.config.secrets import FileRef
from backupd.model.timetables import Every, Never, Weekly, spell_timetable

_SHOWN = {"host", "hostaddr", "port", "dbname", "user", "service", "sslmode"}
_PAIR = re.compile(r"(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|\S*)")


def redacted(config: Config) -> dict[str, Any]:
    """Return the configuration as plain values by configured key, defaults included."""
    shown = _plain(config)
    for region in shown["regions"].values():
        for connection in (*region["databases"].values(), region["lifecycle"]["query"] or {}):
            if connection.get("dsn"):
                connection["dsn"] = _redacted_dsn(connection["dsn"])
    return dict(shown)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {field.alias or name: _plain(getattr(value, name)) for name, field in fields.items()}
    if isinstance(value, dict):
        return {name: _plain(below) for name, below in value.items()}
    if isinstance(value, tuple):
        return [_plain(below) for below in value]
    return spell_value(value)


def spell_value(value: Any) -> Any:
    """Return the value as it is written in the file."""
    if isinstance(value, FileRef):
        return value.text
    if isinstance(value, timedelta):
        return spell_duration(value)
    if isinstance(value, (Never, Every, Weekly)):
        return spell_timetable(value)
    return str(value) if isinstance(value, Path) else value


def _redacted_dsn(dsn: str) -> str:
    if "://" in dsn:
        scheme, _, rest = dsn.partition("://")
        return f"{scheme}://{rest.partition('?')[0]}"
    return " ".join(f"{key}={value if key in _SHOWN else '…'}" for key, value in _PAIR.findall(dsn))
