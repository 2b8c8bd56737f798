"""`restore --runbook`: what to do at the worst hour, with this snapshot's own names and sizes, to keep on paper."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.cli import output

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.operations.restore.paper.previewing import Preview
    from backupd.wiring import Wiring

SHORT = len("20300101T000000Z-") + 8


def runbook(wiring: Wiring, region: RegionName, store: str, found: Preview) -> Iterator[str]:
    """The lines. They name no tenant, and no secret but where it is kept."""
    size, snapshot = output.human_bytes, found.snapshot[:SHORT]
    fetched = f"{found.objects} objects, {size(found.fetched)}"
    expected = "not measured on this machine yet: restore once, and print this again"
    if found.expected is not None:
        expected = f"about {output.human_duration(timedelta(seconds=found.expected))} on this machine, indexes included"
    yield f"RUNBOOK: {found.label} of region {region}"
    yield f"  made on {wiring.clock.now():%Y-%m-%d %H:%M} UTC, for snapshot {snapshot} of {found.exported}"
    yield f"  {found.tables} tables with rows, {found.rows} rows, {size(found.bytes)}; from {store}: {fetched}"
    yield f"  expected: {expected}"
    yield f"  the ledger was obeyed up to entry {found.ledger}; {found.purged} purged segments do not come back"
    yield ""
    yield from told_before()
    for number, (what, command) in enumerate(_steps(region, found, snapshot), start=1):
        yield ""
        yield f"{number}. {what}"
        yield f"     {command}"
    yield ""
    yield "IF IT STOPS: no database has the final name. Its message says what to do; the same command starts anew."
    yield f'     backupd restore {region} {found.label} --clean --target "host=SERVER dbname=postgres user=postgres"'
    yield ""
    yield "IF BACKUPD CANNOT BE INSTALLED: fetch the region's folder, and use the script that lies in it."
    yield f"     {fetching(wiring, region, store)}"
    yield "     python3 -m venv env && env/bin/pip install 'cryptography>=50' zstandard"
    yield f"     env/bin/python store/recover store --identity FILE.identity --database {found.label} --out recovered"


def told_before() -> Iterator[str]:
    """What must be at hand."""
    yield "BEFORE: a machine with the configuration, Python 3.11, backupd, and PostgreSQL's client programs;"
    yield "  an identity file and its passphrase (two people, two places); a server with room for the database."
    yield "  The original stays as it is: everything goes into a new database."


def _steps(region: RegionName, found: Preview, snapshot: str) -> Iterator[tuple[str, str]]:
    identity = "--identity FILE.identity"
    target = f'--target "host=SERVER dbname={found.label}_restored user=postgres"'
    yield "Does the identity open the backups? (seconds)", f"backupd key check {region} {identity}"
    yield "Is the store whole? (reads no rows)", f"backupd verify {region}"
    yield "What will be done?", f"backupd restore {region} {found.label} --snapshot {snapshot} --plan {identity}"
    yield (
        "Restore. Every row is compared with what was signed.",
        f"backupd restore {region} {found.label} --snapshot {snapshot} --globals --analyze {target} {identity}",
    )
    yield (
        "Hand it over: stop the application, rename, start it.",
        f'psql -h SERVER -c "ALTER DATABASE {found.label}_restored RENAME TO …"',
    )


def fetching(wiring: Wiring, region: RegionName, store: str) -> str:
    """The command that brings a region's folder here."""
    section = wiring.config.stores[store]
    if section.kind == "directory":
        return f"cp -r {section.path}/{region} store"
    return f"sftp -P {section.port} -r {section.user}@{section.host}:{section.path}/{region} store"
