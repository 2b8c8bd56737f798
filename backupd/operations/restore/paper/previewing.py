"""What a restore would do, without doing it: what is fetched, what is written, and how long it should take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.operations.phases import Phases
from backupd.operations.restore.choosing import choose, read_history
from backupd.operations.restore.contents import SnapshotContents

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.ids import SnapshotName
    from backupd.operations.restore.paper.rates import Rates
    from backupd.operations.restore.values import RestoreEnvironment, RestoreRequest
    from backupd.operations.verify.ledger import LedgerHistory


@dataclass(frozen=True, slots=True)
class Preview:
    """A restore on paper."""

    snapshot: SnapshotName
    exported: str
    label: str
    segments: int
    purged: int
    aged: int
    unselected: int
    tables: int
    rows: int
    bytes: int
    """Of COPY text to be written."""
    objects: int
    """To be read from the store."""
    fetched: int
    """Their bytes: what is read is at most that, small selections of large objects need less."""
    ledger: int
    """The entry of the ledger that was read and obeyed."""
    expected: float | None
    """Seconds, by what restores on this machine took before; None: none was measured here."""


def preview(
    request: RestoreRequest,
    repository: Repository,
    world: RestoreEnvironment,
    rates: Rates | None,
    history: LedgerHistory | None = None,
) -> Preview:
    """Read the ledger, the record and the manifests; raises what `restore` raises before it touches the target.

    `history` is the ledger, where it was read already.
    """
    phases = Phases(world.clock, world.trace)
    with phases.phase("planning"):
        history = history or read_history(repository, world)
        choice = choose(request, repository, world, history)
    with SnapshotContents(repository, choice.record, choice.keys, request.readers) as contents:
        with phases.phase("planning"):
            plan = contents.plan(request.selection, exact=choice.exact)
        needed = contents.needed()
    return Preview(
        snapshot=choice.snapshot,
        exported=choice.record.exported,
        label=request.label,
        segments=len(choice.record.parts),
        purged=choice.purged,
        aged=choice.aged,
        unselected=choice.unselected,
        tables=len(plan.tables),
        rows=plan.rows,
        bytes=plan.bytes,
        objects=len(needed),
        fetched=sum(needed.values()),
        ledger=len(history.chain.links),
        expected=None if rates is None else phases.seconds() + rates.expected(plan.bytes),
    )
