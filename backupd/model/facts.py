"""What a snapshot says of its database beside schema and rows (FORMAT.md §7, `facts`). Sealed data only."""

from __future__ import annotations

from typing import Any

import msgspec

from backupd.errors import DamageError


class DescribedDatabase(msgspec.Struct, frozen=True):
    """The database that was read."""

    name: str | None = None


class SnapshotFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of all segments of a snapshot together, or of a database that was restored from one."""

    settings: dict[str, str] | None = None
    """Those under which rows were written as text."""
    extensions: list[tuple[str, str, str]] = []
    """Name, version, schema."""
    collations: list[tuple[str, str, str, str | None]] = []
    """Schema, name, provider, version."""
    database: DescribedDatabase = DescribedDatabase()
    tables: list[tuple[str, str, int]] = []
    """Schema, table, rows over all segments; tables of tenants' own schemas are left out."""
    refresh: list[tuple[str, str]] = []
    """Materialized views that were filled: schema, name."""
    ranks: list[int] = []
    """The place of each view of `refresh` in the order over all segments; empty: they are in order."""
    members: dict[str, Any] = {}
    """All facts as they stand in the parts, with those that this program does not know."""

    def refresh_order(self) -> tuple[tuple[str, str], ...]:
        """The materialized views in the order to refresh them. Raises DamageError when one has no rank."""
        ranks = self.ranks or range(len(self.refresh))
        if len(ranks) != len(self.refresh):
            raise DamageError("the facts of the snapshot do not rank each of its materialized views")
        return tuple(view for _, view in sorted(zip(ranks, self.refresh, strict=True)))


def snapshot_facts(members: dict[str, Any]) -> SnapshotFacts:
    """The facts by name; `members` are those of all segments, lists of one name joined.

    Raises DamageError when one is not of its form, naming none of its values.
    """
    known = {name: members[name] for name in SnapshotFacts.__struct_fields__ if name in members and name != "members"}
    try:
        return msgspec.structs.replace(msgspec.convert(known, SnapshotFacts), members=members)
    except msgspec.ValidationError:
        raise DamageError("the facts of the snapshot are not of the form they have to be") from None
