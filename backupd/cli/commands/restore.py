"""`restore`."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.store import tell_signers
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    StoreOption,
    wired,
)
from backupd.cli.passphrase import open_identity
from backupd.cli.progress import watched
from backupd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.model.ids import RegionName
    from backupd.model.ledger import Restored
    from backupd.operations.restore import RestoreReport
    from backupd.operations.restore.previewing import Preview
    from backupd.trace import Trace
    from backupd.wiring import Wiring


def add(app: typer.Typer) -> None:
    app.command("restore", epilog=EXIT_STATUS)(restore)


def restore(
    context: typer.Context,
    region: Annotated[str, typer.Argument(metavar="REGION", show_default=False)],
    database: Annotated[str, typer.Argument(metavar="DATABASE", help="The configured label.", show_default=False)],
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="DSN",
            show_default=False,
            help="The server to restore to, and as dbname the name of the new database.",
        ),
    ] = None,
    snapshot: Annotated[
        str,
        typer.Option("--snapshot", metavar="ID|TIME|latest", help="Its name's beginning, or the newest at a time."),
    ] = "latest",
    identity: IdentityOption = None,
    passphrase_file: PassphraseOption = None,
    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            metavar="TENANT",
            show_default=False,
            help="Only this tenant, with the shared rows; may be repeated. - reads names from standard input.",
        ),
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            metavar="PATTERN",
            show_default=False,
            help="Only rows of these tables, as in public.note or billing.*; may be repeated. The structure is whole, "
            "but for foreign keys.",
        ),
    ] = None,
    data_class: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", show_default=False, help="Only rows of this data class; likewise."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be fetched and written, and how long it should take.")
    ] = False,
    globals_: Annotated[bool, typer.Option("--globals", help="Make roles that the server does not have.")] = False,
    member: Annotated[
        str | None,
        typer.Option(
            "--member", metavar="NAME", show_default=False, help="Which database, where the label stands for several."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="Tables and indexes at once.")] = 4,
    analyze: Annotated[bool, typer.Option("--analyze", help="Gather statistics before handing it over.")] = False,
    passfile: Annotated[
        Path | None,
        typer.Option("--passfile", metavar="FILE", show_default=False, help="The target's password file, as .pgpass."),
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a database into a new one.

    The database is filled under a temporary name and gets its own when everything is there: rows, sequences, large
    objects, indexes, constraints, owners, privileges, comments. Every row is compared with what was read when it was
    backed up. An existing database is never touched; a failed restore leaves none. The ledger is read first: what was
    purged since is left out, and a ledger that cannot be believed, or is older than the snapshot, is damage and stops
    the restore. A tenant, some tables or a data class can be restored alone; only their objects are read.

    \b
    Examples:
      backupd restore be app --target "host=db2 dbname=app_restored" --identity ops.identity
      backupd restore be app --snapshot 2026-03-31T14:00 --globals --target "dbname=app" --identity ops.identity
      backupd restore be app --tenant acme --target "dbname=app_acme" --identity ops.identity
      backupd restore be app --plan --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.operations.restore import restore as run
    from backupd.operations.restore.previewing import preview
    from backupd.operations.restore.rates import keep_rates, rates_of, read_rates
    from backupd.operations.restore.values import World
    from backupd.planning.selection import Selection

    wiring = wired(context, config)
    place = wiring.regions([region])[0]
    (label,) = wiring.databases(place, database)
    if target is None and not plan:
        raise UsageError("a restore needs a --target", hint="--plan needs none: it only says what would be done.")
    source, name = wiring.restore_target(target or "dbname=nowhere", passfile)
    request = RestoreRequest(
        label,
        snapshot,
        source,
        name,
        member=member,
        jobs=jobs,
        roles=globals_,
        analyze=analyze,
        selection=Selection(_names(tenant), frozenset(data_class or ()), tuple(table or ())),
    )
    pair = open_identity(identity, passphrase_file)
    with wiring.repository(place, store) as repository, watched(wiring.clock, quiet=as_json) as trace:
        tell_signers(wiring, repository)
        world = World(
            pair.secret,
            wiring.clock,
            trace,
            os.urandom,
            store=wiring.stores_of(place, store)[0],
            own_ledger=wiring.known_ledger(place),
            note=_noting(wiring, place, trace),
        )
        rates = wiring.rates_file(place, label)
        if plan:
            _tell_plan(region, preview(request, repository, world, read_rates(rates)), as_json=as_json)
            return
        report = run(request, repository, world)
        if (measured := rates_of(report)) is not None and request.selection.everything:
            keep_rates(rates, measured)
    if as_json:
        output.print_json({"region": region, "target": name, "report": report})
    else:
        output.print_lines(_told(name, report))


def _names(tenants: list[str] | None) -> frozenset[str]:
    given = tenants or []
    read = [line.rstrip("\n") for line in sys.stdin] if "-" in given else []
    return frozenset(name for name in [*given, *read] if name not in ("-", ""))


def _tell_plan(region: str, planned: Preview, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"region": region, "plan": planned})
        return
    size = output.human_bytes
    expected = "unknown: no restore of it was measured here yet"
    if planned.expected is not None:
        expected = f"about {output.human_duration(timedelta(seconds=planned.expected))}"
    output.print_facts(
        {
            "snapshot": planned.snapshot,
            "exported": planned.exported,
            "segments": planned.segments,
            "left out": f"{planned.purged} purged, {planned.aged} expired, {planned.unselected} not asked for",
            "tables": planned.tables,
            "rows": planned.rows,
            "written": size(planned.bytes),
            "fetched": f"{planned.objects} objects, {size(planned.fetched)}",
            "ledger": f"obeyed up to entry {planned.ledger}",
            "time": expected,
        }
    )


def _noting(wiring: Wiring, region: RegionName, trace: Trace) -> Callable[[Restored], None] | None:
    """What writes into the ledger, on a keeper."""
    if wiring.config.keeper is None:
        return None

    def note(event: Restored) -> None:
        with wiring.keeper(region, trace) as keeper:
            keeper.book.append(lambda _: [event])

    return note


def _told(name: str, report: RestoreReport) -> list[str]:
    phases = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in report.phases)
    lines = [
        f'restored {report.label} of {report.exported} as "{name}"',
        f"  {report.tables} tables with rows, {report.rows} rows, {output.human_bytes(report.bytes)}",
        f"  {report.verified} digests compared, all equal",
    ]
    if report.purged or report.aged:
        lines.append(f"  left out: {report.purged} segments that were purged, {report.aged} parts that expired")
    if report.unselected or report.foreign_keys:
        lines.append(f"  not asked for: {report.unselected} segments; {report.foreign_keys} foreign keys left out")
    if not report.exact:
        lines.append("  the number of rows was not compared: the record counts more than was to be restored")
    lines.append(f"  {report.seconds:.1f} s in all: {phases}")
    lines.append(
        "  the ledger was told" if report.noted else "  the ledger was not told: this machine does not write it"
    )
    return lines
