"""Options the commands about reports share, and where reports come from."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.options import load_context, trusted_keys
from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.operations.reports import Part
    from backupd.planning.reports.population import Period

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        show_default=False,
        help="Read a copy of a region's folder, or an export, and no configuration.",
    ),
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keeper",
        metavar="KEY",
        show_default=False,
        help="With --folder: a keeper's public key, 64 hex. [default: [trust] of the configuration, to verify]",
    ),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DAY", show_default=False, help="YYYY-MM-DD. [default: a year ago]")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DAY", show_default=False, help="The last day. [default: today]")
]
_DAY = timedelta(days=1)


def period_of(since: str | None, until: str | None, now: datetime) -> Period:
    """Whole days, in UTC; `until` is the last of them.

    Raises UsageError for what is no day, and for a period without one.
    """
    from backupd.planning.reports.population import Period

    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = (_day(until, "--to") if until else today) + _DAY
    begin = _day(since, "--from") if since else end - 366 * _DAY
    if begin >= end:
        raise UsageError("the period has no day", hint="Give --from a day that is not behind --to.")
    return Period(begin, end)


def from_folder(folder: Path, keys: list[str] | None, regions: list[str]) -> list[Part]:
    """The reports of these regions, or all, in a folder; without keys, whoever signed them is believed.

    Raises UsageError.
    """
    from backupd.operations.reports import Part, gather_folder
    from backupd.planning.reports.population import Timetable

    found = gather_folder(folder, trusted_keys(keys) if keys else None)
    known = {one.region for one in found}
    for name in regions:
        if name not in known:
            raise UsageError(f"'{folder}' holds no reports of region '{name}'")
    return [Part(one, Timetable(one.begins, None)) for one in found if not regions or one.region in regions]


def from_stores(ctx: typer.Context, config: Path | None, regions: list[str]) -> list[Part]:
    """The reports of configured regions, on all their stores."""
    from backupd.operations.reports import Part, gather
    from backupd.wiring.drill import drill_timetable
    from backupd.wiring.keeper import open_book_and_repositories

    context = load_context(ctx, config)
    parts: list[Part] = []
    for name in context.regions(regions):
        with open_book_and_repositories(context, name) as (book, repositories):
            gathered = gather(book, repositories)
        parts.append(Part(gathered, drill_timetable(context, name, gathered.begins)))
    return parts


def _day(text: str, option: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise UsageError(f"{option} is not a day", hint="Write it as 2030-01-31.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
