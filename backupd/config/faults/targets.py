"""What the text of a configuration tells of a drill's target: it must be no server that anything else here uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backupd.config.faults import Finding
from backupd.config.text.addresses import keywords, servers

MARK = "backupd_drill"
"""The database that marks a server as set aside for drills; `backupd.postgres` looks for it there."""
_HINT = "A drill needs a server that holds nothing else, and on it the database that marks it."


def target_faults(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Where the target is a server that a backup reads, or names another database than the mark."""
    drill = raw.get("drill")
    if not isinstance(drill, dict):
        return
    dsn, service = drill.get("target_dsn"), drill.get("target_service")
    if isinstance(dsn, str):
        if keywords(dsn).get("dbname", MARK) != MARK:
            yield ("drill", "target_dsn"), f'names another database than "{MARK}"', _HINT
        service = keywords(dsn).get("service", service)
    where = ("drill", "target_dsn" if isinstance(dsn, str) else "target_service")
    theirs = servers(dsn) if isinstance(dsn, str) else frozenset[tuple[str, str]]()
    for path, address in _used(raw):
        used = keywords(address)
        same = isinstance(service, str) and used.get("service") == service
        if same or theirs & servers(address):
            yield where, f"is the server of {path}, which is no place for a drill", _HINT


def _used(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every database's address, as a connection string."""
    regions = raw.get("regions")
    for name, region in regions.items() if isinstance(regions, dict) else ():
        if not isinstance(region, dict):
            continue
        databases, lifecycle = region.get("databases"), region.get("lifecycle")
        query = lifecycle.get("query") if isinstance(lifecycle, dict) else None
        sections = (
            {f"databases.{label}": one for label, one in databases.items()} if isinstance(databases, dict) else {}
        )
        for where, section in {**sections, "lifecycle.query": query}.items():
            if isinstance(section, dict):
                dsn, service = section.get("dsn"), section.get("service")
                if isinstance(dsn, str) or isinstance(service, str):
                    yield f"regions.{name}.{where}", dsn if isinstance(dsn, str) else f"service={service}"
