"""The first configuration of a machine as text, from what somebody was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from backupd.config import fields

Value = str | int | bool | list[str]

_ANSWERS: dict[str, Any] = {
    "name": fields.Name,
    "region": fields.RegionLabel,
    "host": fields.Host,
    "user": fields.User,
    "remote path": fields.RemotePath,
    "folder": fields.AbsolutePath,
    "tenant pattern": fields.TenantPattern,
}


def complaint(kind: str, text: str) -> str:
    """Return what is wrong with an answer of a kind, as the configuration would say it; nothing when it is well."""
    try:
        TypeAdapter(_ANSWERS[kind]).validate_python(text)
    except ValidationError as error:
        return str(error.errors(include_url=False)[0]["ctx"]["error"])
    return ""


@dataclass(frozen=True, slots=True)
class StoreDraft:
    """A store's section, under its name; its keys as they are written."""

    name: str
    location: str
    keys: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class ConfigDraft:
    """Everything that a configuration needs for one region with one database and one store."""

    node: str
    region: str
    database: str
    """The name of the database in commands."""
    dsn: str
    tenancy: tuple[str, ...]
    """The lines that say whose its rows are."""
    store: StoreDraft
    signer: str
    """Public key of this machine's signing key."""
    keeper: str
    """Public key of the keeper's signing key."""
    files: Mapping[str, str] = field(default_factory=dict)
    """How the configuration refers to each file by its name: an absolute path, or `credential:NAME`."""
    recipients: tuple[str, ...] = ()
    """Absolute paths of the recipient files."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """`state_dir` and `spool_dir`, where they are not the usual ones."""
    keeps: bool = False
    """Whether this machine is the keeper, too."""

    def text(self) -> str:
        """Return the configuration as TOML."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield "# Written by `backupd setup`. `backupd manual configuration` has every key."
        yield f"recipients = {toml(list(self.recipients))}"
        node = {"name": self.node, **self.folders, **self._named(signing_key_file="signing.key")}
        yield from _section("node", {**node, **self._named(tenant_key_file="tenant.key")})
        yield from _section("trust", {"signers": [self.signer], "keepers": [self.keeper]})
        if self.keeps:
            yield from _section("keeper", self._named(signing_key_file="keeper.key"))
        yield from _section(f"stores.{self.store.name}", {**self.store.keys, "location": self.store.location})
        region = f"regions.{self.region}"
        yield from _section(region, {"locations": [self.store.location], "stores": [self.store.name]})
        database = f"{region}.databases.{self.database}"
        passfile = self._named(passfile="pgpass") if "pgpass" in self.files else {}
        yield from _section(database, {"dsn": self.dsn, **passfile})
        yield from self.tenancy

    def _named(self, **names: str) -> dict[str, Value]:
        return {key: self.files[name] for key, name in names.items()}


def _section(name: str, keys: Mapping[str, Value]) -> Iterator[str]:
    yield from ("", f"[{name}]")
    yield from (f"{key} = {toml(value)}" for key, value in keys.items())


def toml(value: Value) -> str:
    """Write a value as TOML does. JSON's strings, numbers and lists are TOML's, but for one control character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
