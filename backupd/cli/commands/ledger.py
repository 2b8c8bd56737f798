"""The group `ledger`: show and verify it, retire a store or a keeper, and declare entries misdated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer

from backupd.cli.consent import DryRunOption, YesOption, is_asked, show_and_ask
from backupd.cli.options import (
    EXIT_STATUS,
    AtLeastOption,
    ConfigOption,
    JsonOption,
    ledger_head,
    load_context,
    region_of,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.errors import DamageError
from backupd.model.text import counted, counts

if TYPE_CHECKING:
    from backupd.model.ledger import LedgerEntry
    from backupd.operations.ledger.check import CheckedLedger
    from backupd.trace import Trace

RegionOption = Annotated[str, typer.Argument(metavar="REGION", show_default=False)]
_DecisionOption = Annotated[
    str, typer.Option("--decision", metavar="REFERENCE", show_default=False, help="Who decided: a ticket's number.")
]
_SURE = "Say so for good?"
_T = TypeVar("_T")


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="The signed chain of what happened to tenants and snapshots.")
    group.command("show", epilog=EXIT_STATUS)(show)
    group.command("verify", epilog=EXIT_STATUS)(verify)
    group.command("retire", epilog=EXIT_STATUS)(retire)
    group.command("retire-keeper", epilog=EXIT_STATUS)(retire_keeper)
    group.command("redate", epilog=EXIT_STATUS)(redate)
    app.add_typer(group, name="ledger")


def show(
    ctx: typer.Context,
    region: RegionOption,
    newest: Annotated[int | None, typer.Option("--newest", min=1, metavar="N", help="Only so many entries.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show the ledger's entries, oldest first. It names no tenant: ids only.

    \b
    Example:
      backupd ledger show be --newest 10
    """
    from backupd.wiring.keeper import open_book

    context = load_context(ctx, config)
    name = region_of(context, region)
    with watched(context.clock, quiet=as_json) as trace, open_book(context, name, trace) as book:
        chain = book.chain
    first = max(0, len(chain.links) - newest) if newest else 0
    entries = [link.entry for link in chain.links[first:]]
    return Reply(
        {"head": chain.head, "entries": entries, "misdated": sorted(chain.misdated)},
        (line for entry in entries for line in _entry_lines(entry, misdated=entry.seq in chain.misdated)),
    ).print(as_json=as_json)


def verify(
    ctx: typer.Context,
    region: RegionOption,
    ledger_at_least: AtLeastOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check every entry on every store, and the heads that snapshots saw. Needs no secret.

    Numbers, signatures and links are checked, and that all stores and this machine's own copy hold the same chain. A
    snapshot's record says what the ledger was when it was written: an entry cut off since is missed there.

    \b
    Example:
      backupd ledger verify be
    """
    from backupd.operations.ledger.check import check_ledger
    from backupd.wiring.answering_store import open_answering
    from backupd.wiring.keeper import open_book

    witness, context = ledger_head(ledger_at_least), load_context(ctx, config)
    name = region_of(context, region)
    with (
        watched(context.clock, quiet=as_json) as trace,
        open_book(context, name, trace) as book,
        open_answering(context, name, None, trace) as (_, repository),
    ):
        found = check_ledger(book, repository, witness)
    return Reply(
        {"region": region, "clean": not found.damage, "ledger": found},
        _checked_lines(region, found),
        status=DamageError.exit_code if found.damage else 0,
    ).print(as_json=as_json)


def _checked_lines(region: str, found: CheckedLedger) -> Iterator[str]:
    verdict = "DAMAGED" if found.damage else "clean"
    yield f"{region}: {verdict}, {counts(entry=found.entries, witness=found.witnesses)}"
    if found.entries and not found.damage:
        yield f"  to keep elsewhere: --ledger-at-least {found.head}"
    yield from (f"  damage: {line}" for line in found.damage)
    yield from (f"  dated ahead: entry {seq}; `backupd ledger redate` lets work go on" for seq in found.ahead)
    yield from (f"  not reached: {store}" for store in found.unreached)


def retire(
    ctx: typer.Context,
    region: RegionOption,
    store: Annotated[str, typer.Argument(metavar="STORE", show_default=False, help="As it was named when in use.")],
    decision: _DecisionOption,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say that a store that is not configured any more is gone for good. Runs on the keeper.

    Nobody can look at it: purges wait for it no longer, and every attestation names it as declared gone, not as seen
    empty. Say so only when the account was closed, or its disks were destroyed.

    \b
    Example:
      backupd ledger retire be geneva --decision OPS-311
    """
    from backupd.operations.ledger.check import retire as run
    from backupd.operations.ledger.check import waiting_for
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        waiting = counted(waiting_for(keeper.book.states, store), "purge")
        would = f"{region}: store '{store}' would be retired; {waiting} would wait for it no longer"
        say = partial(run, keeper.book, keeper.stores.keys(), store, decision)
        events = _said(say, lambda _: would, "Say for good that it is gone?", trace, dry_run=dry_run, yes=yes)
    line = f"{region}: store '{store}' is retired" + ("" if events else " already")
    value = {"region": region, "store": store, "changed": bool(events) and not dry_run, "dry_run": dry_run}
    return Reply(value, [would if dry_run and events else line]).print(as_json=as_json)


def retire_keeper(
    ctx: typer.Context,
    region: RegionOption,
    key: Annotated[
        str, typer.Argument(metavar="KEY", show_default=False, help="The public key of the other keeper, 64 hex.")
    ],
    decision: _DecisionOption,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say that another keeper's key is one no more: it was stolen, or exchanged. Runs on a keeper that stays.

    What the key signed so far is believed, and it stays under trust.keepers for that. No entry that it signs from now
    on is one to anybody: a thief who still has it, and writes to a store, makes nobody remove anything.

    \b
    Example:
      backupd ledger retire-keeper be $KEY --decision OPS-313
    """
    from backupd.operations.ledger.check import retire_keeper as run
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        would = f"{region}: the keeper {key} would be retired"
        say = partial(run, keeper.book, keeper.signer.public, key, decision)
        events = _said(say, lambda _: would, _SURE, trace, dry_run=dry_run, yes=yes)
    line = would if dry_run and events else f"{region}: the keeper {key} is retired"
    value = {"region": region, "keeper": key, "changed": bool(events) and not dry_run, "dry_run": dry_run}
    return Reply(value, [line + ("" if events else " already")]).print(as_json=as_json)


def redate(
    ctx: typer.Context,
    region: RegionOption,
    decision: _DecisionOption,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say that entries that are dated ahead were misdated, so that work goes on. Runs on the keeper.

    A keeper whose clock was wrong wrote them, and nothing could be appended until their time had come. They stay as
    they are and where they are; from then on the safe side of their dates counts. All stores that can be reached must
    agree with this machine's clock.

    \b
    Example:
      backupd ledger redate be --decision OPS-312
    """
    from backupd.operations.ledger.redate import redate as run
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    name = region_of(context, region)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        say = partial(run, keeper.book, decision)
        would = partial(_misdated, region, dry_run=True)
        entries = _said(say, would, _SURE, trace, dry_run=dry_run, yes=yes)
    line = _misdated(region, entries, dry_run=dry_run)
    return Reply({"region": region, "misdated": entries, "dry_run": dry_run}, [line]).print(as_json=as_json)


def _said(
    say: Callable[..., list[_T]],
    would: Callable[[list[_T]], str],
    question: str,
    trace: Trace,
    *,
    dry_run: bool,
    yes: bool,
) -> list[_T]:
    """Return what `say` would append to the ledger; append it, too, unless only asked, once a person has agreed."""
    found = say(dry_run=True)
    if found and not dry_run:
        if is_asked(yes=yes):
            show_and_ask([would(found)], question, trace)
        found = say()
    return found


def _misdated(region: str, entries: list[int], *, dry_run: bool) -> str:
    if not entries:
        return f"{region}: no entry is dated ahead"
    did = "would be recorded as dated ahead" if dry_run else "recorded as dated ahead"
    return f"{region}: {did}: {'entry' if len(entries) == 1 else 'entries'} {', '.join(map(str, entries))}"


def _entry_lines(entry: LedgerEntry, *, misdated: bool) -> Iterator[str]:
    yield f"#{entry.seq}  {entry.at}" + ("  (dated ahead by a wrong clock)" if misdated else "")
    for event in entry.events:
        fields: dict[str, Any] = msgspec.to_builtins(event)
        name = fields.pop("event")
        values = (f"{key}={len(value) if isinstance(value, list) else value}" for key, value in fields.items() if value)
        yield f"  {name}  {' '.join(values)}"
