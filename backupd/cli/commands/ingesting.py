"""`ingest`: the keeper takes what nodes handed in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from backupd.cli import failures, output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, StoresOption, load_context
from backupd.cli.progress import watched
from backupd.errors import BackupdError

if TYPE_CHECKING:
    from backupd.operations.keeper.ingesting.values import Ingested


def add_ingest(app: typer.Typer) -> None:
    app.command("ingest", epilog=EXIT_STATUS)(ingest)


def ingest(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Take what nodes handed in, on stores with `ingest`. Runs on the keeper, every few minutes.

    Each object is read, compared with its name, checked as an honest node would have made it, and copied to its place,
    where no node can change it; a snapshot's record comes last. What no honest node hands in is told, taken nowhere,
    and makes the exit status that of a refusal.

    \b
    Example:
      backupd ingest be
    """
    from backupd.operations.keeper.ingesting.run import ingest as run
    from backupd.operations.keeper.ingesting.run import troubles
    from backupd.wiring.keeper import adopt_repositories, handoff_stores, open_keeper

    context = load_context(ctx, config)
    told: list[dict[str, Any]] = []
    status = 0
    with watched(context.clock, quiet=as_json) as trace:
        for name in context.regions(region or []):
            places = [place for place in context.stores_of(name, store) if place in handoff_stores(context, name)]
            if not places:
                continue
            adopt_repositories(context, name)
            with open_keeper(context, name, trace) as keeper:
                for place in places:
                    try:
                        done = run(keeper, place)
                    except BackupdError as error:
                        status = status or error.exit_code
                        told.append({"region": name, "store": place, "error": failures.as_object(error)})
                        if not as_json:
                            failures.print_failure(error, f"{name} on {place}")
                        continue
                    refused = troubles(done)
                    status = status or (refused.exit_code if refused else 0)
                    told.append({"region": name, **msgspec.to_builtins(done)})
                    if not as_json:
                        output.print_lines(_told(name, done))
                        if refused:
                            failures.print_failure(refused, f"{name} on {place}")
    if as_json:
        output.print_json({"stores": told})
    return status


def _told(region: str, done: Ingested) -> Iterator[str]:
    taken = ", ".join(f"{number} {kind}s" for kind, number in done.taken.items()) or "nothing"
    yield f"{region} on {done.store}: took {taken}, {output.human_bytes(done.bytes)}"
    if done.dropped:
        yield f"  {done.dropped} objects were not needed"
    for name, missing in done.waiting.items():
        yield f"  {name} waits for {missing}"
    for name, why in done.refused.items():
        yield f"  REFUSED {name}: {why}"
