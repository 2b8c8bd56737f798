"""`replicate`: one store brought up to date from another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, load_context
from backupd.cli.progress import watched
from backupd.errors import DamageError

if TYPE_CHECKING:
    from backupd.operations.replication import Replication


def add_replicate(app: typer.Typer) -> None:
    app.command("replicate", epilog=EXIT_STATUS)(replicate)


def replicate(
    ctx: typer.Context,
    region: Annotated[str, typer.Argument(metavar="REGION", show_default=False)],
    origin: Annotated[
        str, typer.Option("--from", metavar="STORE", show_default=False, help="The store that has the snapshots.")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="STORE", show_default=False, help="The store that is to have them, too.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be copied, and copy nothing.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Copy to one store what it lacks of another one's snapshots, without a key. Runs on the keeper.

    For a store that is new, or comes back after it was away. Objects are copied as they are, and compared with their
    hashes and signatures on the way; records come last. What was purged or expired is not copied, and what is purged
    meanwhile stays purged. Nothing is overwritten; what was cut off is gone on with by giving the command again.

    \b
    Examples:
      backupd replicate be --from zurich --to cellar --dry-run
      backupd replicate be --from zurich --to cellar
    """
    from backupd.operations.replication import replicate
    from backupd.wiring.keeper import open_keeper, replication_between

    context = load_context(ctx, config)
    (name,) = context.regions([region])
    for store in (origin, target):
        context.stores_of(name, store)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        done = replicate(replication_between(context, keeper, origin, target, dry_run=dry_run))
    if as_json:
        output.print_json({"region": name, "dry_run": dry_run, "replication": done})
    else:
        output.print_lines(_lines(name, done, dry_run=dry_run))
    return DamageError.exit_code if done.damage else 0


def _lines(region: str, done: Replication, *, dry_run: bool) -> Iterator[str]:
    did = "would be copied" if dry_run else "copied"
    yield f"{region}: {done.origin} to {done.target}: {len(done.snapshots)} snapshots {did}, {done.already} were there"
    yield f"  {done.generations} generations, {done.objects} objects, {output.human_bytes(done.bytes)}"
    if done.left_out:
        yield f"  {done.left_out} left out, because they expired"
    yield from (f"  {message}" for message in done.damage)
