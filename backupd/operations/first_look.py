"""The first look into a database that nobody has configured yet."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.model.findings import Finding
from backupd.model.inventory import Inventory
from backupd.postgres.connect import Source, connect
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight


@dataclass(frozen=True, slots=True)
class FirstLook:
    """The tables of a database, and what stands in the way of reading it."""

    inventory: Inventory
    findings: tuple[Finding, ...]


def look_into(source: Source, columns: frozenset[str] = frozenset()) -> FirstLook:
    """Read a database's tables, and check whether our role can back it up; `columns` may name tenants.

    Raises SourceError, SourceGoneError, ConfigError.
    """
    with connect(source) as connection:
        inventory = read_inventory(connection, columns)
        return FirstLook(inventory, preflight(connection, source, inventory))
