"""The command `status`, which shows how regions stand on one screen and in one exit status."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, load_context
from backupd.cli.run import Reply
from backupd.cli.waiting_line import StoresAsked, counted_seconds
from backupd.errors import RefusedError
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.model.status import Alarm, DatabaseFacts, JobFacts, RegionFacts, StoreFacts, UnreadFacts

_ENFORCED = {
    "append-only": "append-only for writers",
    "ingest": "writers hand in, the keeper takes",
    "plain": "a writer may remove and overwrite",
}
"""The meaning of a store's mode: who may remove what."""


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("status", epilog=EXIT_STATUS)(status)


def status(
    ctx: typer.Context,
    region: RegionArgument = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also try by writing what stores can do, at most once a day.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the same as a page, too.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say how regions stand: the newest snapshot published, verified and restored, who is leaving, what stores can do.

    The three ages are never mixed. What is wrong stands below, with what to do about it. The exit status is that of the
    first store that cannot be reached, or 10 when something endangers a promise: a tenant past its date or too near it,
    a snapshot or a proof older than promised, a keeper that does not run, a store that is not what it was.
    What `verify` found when somebody ran it is not in it, but which bytes a keeper read and found right is.

    \b
    Examples:
      backupd status
      backupd status be --html be.html
    """
    from backupd.model.answers import StatusAnswer
    from backupd.wiring.context import QUICKLY
    from backupd.wiring.status import alarms_of, facts_of_regions, write_status_page

    context = load_context(ctx, config)
    names = context.regions(region or [])
    asked = StoresAsked(f"reading the stores of {', '.join(names)}", QUICKLY)
    with counted_seconds(asked, quiet=as_json):
        found = facts_of_regions(context, names, asked, probe=probe)
    alarms = {one.region: alarms_of(context, one) for one in found}
    if html is not None:
        write_status_page(context, html, found)
    every = [alarm for some in alarms.values() for alarm in some]
    unreached = (store.error.exit_code for one in found for store in one.stores if store.error is not None)
    return Reply(
        StatusAnswer(regions=tuple(found), alarms=tuple(every)),
        (
            line
            for one in found
            for line in (*_region_lines(one, context.clock.now()), *_alarm_lines(alarms[one.region]))
        ),
        status=next(unreached, RefusedError.exit_code if any(map(_is_grave, every)) else 0),
    ).print(as_json=as_json)


def _is_grave(alarm: Alarm) -> bool:
    """Say whether an alarm endangers a promise. What a job of the past reported is no state of the region."""
    from backupd.model.status import AlarmCode, AlarmSeverity

    return alarm.severity is AlarmSeverity.ERROR and alarm.code not in (AlarmCode.JOB_FAILED, AlarmCode.JOB_FOUND)


def _region_lines(one: RegionFacts, now: datetime) -> Iterator[str]:
    if one.ledger is None:
        yield f"{one.region}: who is leaving is not known: no store answers, and no copy of the ledger is here"
    else:
        yield from _ledger_lines(one, now)
    for store in one.stores:
        yield from _store_lines(store, one, now)
    for job in one.jobs:
        yield _job_line(job, now)


def _ledger_lines(one: RegionFacts, now: datetime) -> Iterator[str]:
    yield f"{one.region}: {counted(one.leaving, 'tenant')} leaving" + (
        f", the next deadline is {one.next_deadline:%Y-%m-%d}" if one.next_deadline else ""
    )
    for late in one.late:
        yield f"  LATE: tenant {late['tenant']} is {late['overdue']}"
    yield f"  newest proof by a drill: {output.age(one.proven, now)}"


def _store_lines(store: StoreFacts, one: RegionFacts, now: datetime) -> Iterator[str]:
    if store.error is not None:
        yield f"  {store.store}: {store.error.message}"
        return
    roles = _ENFORCED.get(store.mode or "", "nobody knows who may remove")
    keeper = "a keeper of its own" if store.separate_keeper else "the keeper logs in as the writer does"
    yield f"  {store.store}: {roles}, {keeper}, {counted(len(store.server_snapshots), 'snapshot')} of its own"
    if store.space is not None:
        yield f"    {output.human_bytes(store.space.free)} free of {output.human_bytes(store.space.total)}"
    yield f"    keeper's last run: {output.age(store.kept, now)}"
    if store.handing and store.mode == "plain":
        yield "    ingest is configured, and the node's account can write where only the keeper should"
    if store.handed_in:
        waiting = counted(store.handed_in, "object")
        yield f"    {waiting} wait for `backupd ingest`, the oldest: {output.age(store.handed_since, now)}"
    for change in store.changes:
        yield f"    {change.what} was {change.before} when that was last accepted, and is {change.now}"
    for database in store.databases:
        yield _ages_line(database, one, now)
        if database.unread is not None:
            yield _unread_line(database.unread, now)


def _ages_line(ages: DatabaseFacts, one: RegionFacts, now: datetime) -> str:
    rpo = one.promises.rpo
    promised = f" (promised: {output.human_duration(timedelta(seconds=rpo))})" if rpo is not None else ""
    return (
        f"    {ages.label}: published {output.age(ages.published, now)}{promised},"
        f" {_verified(ages, now)}, restored {output.age(ages.restored, now)}"
    )


def _verified(ages: DatabaseFacts, now: datetime) -> str:
    """Say when a snapshot was verified: only one whose bytes were read counts."""
    return f"verified {output.age(ages.verified, now)}" if ages.verified else "verified never (`verify --read-data`)"


def _unread_line(unread: UnreadFacts, now: datetime) -> str:
    if unread.reason:
        return f"      everything is read: {unread.reason}"
    return f"      {output.human_bytes(unread.bytes)} not read as unchanged, compared {output.age(unread.audited, now)}"


def _job_line(job: JobFacts, now: datetime) -> str:
    took = output.human_duration(timedelta(seconds=job.seconds))
    return f"  {job.kind}: {job.outcome} {output.age(job.ended, now)}, took {took}"


def _alarm_lines(alarms: tuple[Alarm, ...]) -> Iterator[str]:
    for alarm in alarms:
        yield f"  {alarm.severity.upper()}: {alarm.message}"
        yield f"    {alarm.hint}"
