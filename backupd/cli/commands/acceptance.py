"""The group `store`: accept a wanted change of a store, or name a new signer in its repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli.consent import DryRunOption, YesOption, is_asked, show_and_ask
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, load_context
from backupd.cli.run import Reply, for_each
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import ConfigError, UsageError
from backupd.model.ledger import REFERENCE

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.operations.store_profile import Accepted
    from backupd.wiring.context import Context

_LONGEST = 1 << 20
"""Bytes of a repository's document, at most."""


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="Accept wanted changes of a store.")
    group.command("accept", epilog=EXIT_STATUS)(accept)
    app.add_typer(group, name="store")


def accept(
    ctx: typer.Context,
    store: Annotated[str, typer.Argument(metavar="STORE", show_default=False)],
    reason: Annotated[
        str,
        typer.Option(
            "--reason", metavar="REFERENCE", show_default=False, help="Who wanted it: a ticket's number; never a name."
        ),
    ],
    region: Annotated[
        str | None,
        typer.Option("--region", metavar="REGION", show_default=False, help="Only this region. [default: all on it]"),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", show_default=False, help="Sign, and write to FILE, not to the store."),
    ] = None,
    origin: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", show_default=False, help="Put what --write wrote elsewhere."),
    ] = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Accept what is true of a store now: what it can do, and the signers and keepers of today.

    A store is tried out at `init`, and what was found is kept in its repository, signed. What changes later is an
    alarm, until somebody accepts it here, with a reason that stands in the repository from then on. The same names
    signers and keepers who joined after `init`, so that `recover` believes them, and drops those who are trusted no
    longer.

    It takes a writer's signing key, and an account that may replace: the keeper's, where this machine has it. Where
    the two are apart, `--write` on the node and `--from` on the keeper do it in two steps.

    \b
    Examples:
      backupd store accept zurich --reason OPS-311
      backupd store accept zurich --region be --reason OPS-311 --write accepted.json
      backupd store accept zurich --region be --reason OPS-311 --from accepted.json
    """
    context = load_context(ctx, config)
    if re.fullmatch(REFERENCE, reason) is None:
        raise UsageError("--reason is no reference", hint="Write a number that can be looked up, as OPS-311.")
    regions = _regions(context, store, region)
    _require_one_way(regions, write, origin, dry_run=dry_run)

    def one(name: RegionName) -> Reply:
        if origin is not None:
            return _put(context, name, store, origin)
        if dry_run:
            return _previewed(context, name, store, reason)
        if write is None and is_asked(yes=yes):
            _ask(_previewed(context, name, store, reason))
        return _accepted(context, name, store, reason, write)

    return for_each(regions, one, as_json=as_json).finish("stores")


def _require_one_way(regions: list[RegionName], write: Path | None, origin: Path | None, *, dry_run: bool) -> None:
    """Raise UsageError for options that contradict each other."""
    if (write is not None or origin is not None) and len(regions) > 1:
        raise UsageError("--write and --from are for one region", hint=f"Name it with --region: {', '.join(regions)}.")
    if write is not None and origin is not None:
        raise UsageError("--write and --from exclude each other")
    if dry_run and origin is not None:
        raise UsageError("--dry-run and --from exclude each other", hint="Give --dry-run where it is signed.")


def _regions(context: Context, store: str, region: str | None) -> list[RegionName]:
    """Return the regions that use a store. Raises UsageError when there is none."""
    from backupd.model.text import did_you_mean

    chosen = context.regions([region] if region is not None else [])
    found = [name for name in chosen if store in context.stores_of(name)]
    if not found:
        where = f'region "{region}" has no' if region is not None else "no region has a"
        raise UsageError(f'{where} store "{store}"', hint=did_you_mean(store, list(context.config.stores)))
    return found


def _ask(preview: Reply) -> None:
    """Show what would be accepted, if anything, and ask. Raises RefusedError when nobody agrees."""
    if preview.value["changes"] or preview.value["named"] or preview.value["dropped"]:
        show_and_ask(preview.lines, "Accept that?")


def _previewed(context: Context, region: RegionName, store: str, reason: str) -> Reply:
    """Return what would be accepted of one region's store; it is probed, and nothing else is written."""
    from backupd.operations.store_profile import accepted_document
    from backupd.wiring.backup import accept_request
    from backupd.wiring.context import QUICKLY, open_repository, open_store

    with (
        counted_seconds(f"asking {store}"),
        closing(open_store(context, region, store, QUICKLY)) as writer,
        open_repository(context, region, store, QUICKLY) as repository,
    ):
        _, done = accepted_document(repository, writer, accept_request(context, reason))
    name = f"{region} on {store}"
    return Reply(_value(region, store, done, written=False), list(_lines(name, done, "would be accepted")))


def _accepted(context: Context, region: RegionName, store: str, reason: str, write: Path | None) -> Reply:
    from backupd.operations.store_profile import accept as run
    from backupd.operations.store_profile import accepted_document
    from backupd.wiring.backup import accept_request, replacing_repository
    from backupd.wiring.context import QUICKLY, open_store

    request = accept_request(context, reason)
    with (
        counted_seconds(f"asking {store}"),
        closing(open_store(context, region, store, QUICKLY)) as writer,
        replacing_repository(context, region, store) as repository,
    ):
        if write is None:
            done = run(repository, writer, request)
        else:
            document, done = accepted_document(repository, writer, request)
            _save(write, document)
    name = f"{region} on {store}"
    did = "accepted" if write is None else f"to be accepted, signed in {write}"
    return Reply(_value(region, store, done, written=write is None), _lines(name, done, did))


def _put(context: Context, region: RegionName, store: str, origin: Path) -> Reply:
    from backupd.operations.store_profile import put_accepted
    from backupd.wiring.backup import replacing_repository

    try:
        with origin.open("rb") as file:
            document = file.read(_LONGEST + 1)[:_LONGEST]
    except OSError as error:
        raise ConfigError(f'"{origin}" cannot be read ({error.strerror})') from None
    with replacing_repository(context, region, store) as repository:
        put_accepted(repository, document)
    return Reply({"region": region, "store": store}, [f"{region} on {store}: accepted as signed"])


def _save(file: Path, document: bytes) -> None:
    from backupd.atomic_file import write_whole

    try:
        write_whole(file.absolute(), document, 0o644)
    except OSError as error:
        raise ConfigError(f'"{file}" cannot be written ({error.strerror})') from None


def _value(region: str, store: str, done: Accepted, *, written: bool) -> dict[str, Any]:
    return {
        "region": region,
        "store": store,
        "accepted": done.changed and written,
        "changes": done.changes,
        "named": done.named,
        "dropped": done.dropped,
    }


def _lines(name: str, done: Accepted, did: str) -> Iterator[str]:
    if not done.changed:
        yield f"{name}: nothing to accept; it is what it was"
        return
    yield f"{name}: {did}"
    yield from (f"  {one.what}: was {one.before}, now {one.now}" for one in done.changes)
    yield from (f"  names {key} from now on" for key in done.named)
    yield from (f"  names {key} no longer" for key in done.dropped)
