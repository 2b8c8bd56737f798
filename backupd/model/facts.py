"""The facts of a snapshot: all it says of its database besides schema and rows (FORMAT.md §7). Sealed data only."""

from __future__ import annotations

from typing import Any

import msgspec

from backupd.errors import DamageError


class DescribedDatabase(msgspec.Struct, frozen=True):
    """The database that the snapshot was read from."""

    name: str | None = None
    public: bool = True
    """Whether it has the schema `public`, with which every new database begins; no archive says that it was dropped."""


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of all segments of a snapshot together, or of a database that was restored from one."""

    settings: dict[str, str] | None = None
    """The settings under which rows were written as text."""
    extensions: list[tuple[str, str, str]] = []
    """Name, version and schema of each extension."""
    collations: list[tuple[str, str, str, str | None]] = []
    """Schema, name, provider and version of each collation."""
    database: DescribedDatabase = DescribedDatabase()
    tables: list[tuple[str, str, int]] = []
    """Schema, table and number of rows over all segments; tables of tenants' own schemas are left out."""
    refresh: list[tuple[str, str]] = []
    """Schema and name of each materialized view that was filled."""
    ranks: list[int] = []
    """The place of each view of `refresh` in the order over all segments; empty when they are in order."""
    members: dict[str, Any] = {}
    """All facts as they stand in the manifests, including those this program does not know."""

    def refresh_order(self) -> tuple[tuple[str, str], ...]:
        """Return the materialized views in the order in which to refresh them.

        Raises DamageError when a view has no rank.
        """
        ranks = self.ranks or range(len(self.refresh))
        if len(ranks) != len(self.refresh):
            raise DamageError("the facts of the snapshot do not rank each of its materialized views")
        return tuple(view for _, view in sorted(zip(ranks, self.refresh, strict=True)))


def snapshot_facts(members: dict[str, Any]) -> SnapshotFacts:
    """Convert the facts of a snapshot to a value; `members` are those of all segments, lists of one name joined.

    Raises DamageError, which quotes no value, when a fact is not of its form.
    """
    known = {name: members[name] for name in SnapshotFacts.__struct_fields__ if name in members and name != "members"}
    try:
        return msgspec.structs.replace(msgspec.convert(known, SnapshotFacts), members=members)
    except msgspec.ValidationError:
        raise DamageError("the facts of the snapshot are not of the form they have to be") from None
