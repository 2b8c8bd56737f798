"""Preview a restore without doing it: what is fetched, what is written, and how long it should take, by the speed of
earlier restores on this machine.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from backupd.model.ids import SnapshotName
from backupd.model.text import UnreadableError, from_json
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.phases import Phases
from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.contents import SnapshotContents
from backupd.operations.restore.types import RestoreEnvironment, RestoreReport, RestoreRequest
from backupd.planning.restore import RestorePlan
from backupd.postgres.target import session
from backupd.postgres.target.lacks import Lack, missing_things
from backupd.postgres.target.pg_restore import joined_schema
from backupd.postgres.target.restorer import Restorer, restorer, superusers_part
from backupd.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class Preview:
    """The figures of a restore that was not made."""

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
    """Bytes of COPY text to be written."""
    objects: int
    """Packs to be read from the store."""
    fetched: int
    """Bytes of the sections to be read in them, at most: a selection of tables needs fewer."""
    ledger: int
    """Number of the last ledger entry that was read and obeyed."""
    head: str
    """This entry as `--ledger-at-least` takes it; empty without any."""
    expected: float | None
    """Expected seconds, by earlier restores on this machine; None when none was measured."""
    lacks: tuple[Lack, ...] = ()
    """What the target lacks, with names: who asks has an identity, and could read all of it."""
    superuser: tuple[str, ...] = field(default=(), repr=False)
    """Kind and name of what only a superuser of the target can make."""
    restorer: Restorer | None = None
    """The role to restore by that was asked for."""


def preview(
    request: RestoreRequest,
    repository: Repository,
    environment: RestoreEnvironment,
    rates: Rates | None,
    history: LedgerHistory | None = None,
) -> Preview:
    """Read the ledger, the record and the manifests; raises what `restore` raises before it touches the target.

    A target is looked at, too, where the request has one. `history` is the ledger, where it was read already.
    """
    phases = Phases(environment.clock, environment.trace, request.label)
    with ExitStack() as stack:
        with phases.phase("planning"):
            history = history or read_history(repository, environment)
            choice = choose(request, repository, environment, history)
            contents = stack.enter_context(SnapshotContents(repository, choice, request.readers))
            plan = contents.plan(request.selection, exact=choice.exact, rows=False)
        needed = contents.needed()
        found = _at_target(request, contents, plan) if request.target.conninfo else _Found()
    return Preview(
        snapshot=choice.snapshot,
        exported=choice.record.exported,
        label=request.label,
        segments=len(choice.segments),
        purged=choice.purged,
        aged=choice.aged,
        unselected=choice.unselected,
        tables=len(plan.tables),
        rows=plan.rows,
        bytes=plan.bytes,
        objects=len(needed),
        fetched=sum(needed.values()),
        ledger=len(history.chain.links),
        head=str(history.chain.head) if history.chain.links else "",
        expected=None if rates is None else phases.seconds() + rates.expected(plan.bytes),
        lacks=found.lacks,
        superuser=found.superuser,
        restorer=found.restorer,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    lacks: tuple[Lack, ...] = ()
    superuser: tuple[str, ...] = ()
    restorer: Restorer | None = None


def _at_target(request: RestoreRequest, contents: SnapshotContents, plan: RestorePlan) -> _Found:
    """Return what the target lacks of what the schema names, and who can restore it. Raises SourceError."""
    head, files, _ = contents.schema(plan)
    with (
        joined_schema(head, files, changes=request.changes) as schema,
        session.connect(request.target, session.MAINTENANCE) as connection,
    ):
        needs = schema.needs
        return _Found(
            tuple(missing_things(connection, needs, roles=request.roles)),
            superusers_part(connection, needs, schema.database),
            restorer(connection, needs, request.restorer) if request.restorer is not None else None,
        )


_LEAST = 1 << 20
"""Bytes of rows that a restore must have loaded for its speed to count."""


class Rates(msgspec.Struct, frozen=True):
    """The speed of the last restore that was large enough to measure."""

    seconds_per_byte: float
    """Seconds for each byte of COPY text: loading, indexing and all else that grows with the rows."""
    fixed: float
    """Seconds that do not grow: the schema, the roles, the final name."""

    def expected(self, size: int) -> float:
        """Return the expected seconds for so many bytes of COPY text, without planning."""
        return self.fixed + size * self.seconds_per_byte


def rates_of(report: RestoreReport) -> Rates | None:
    """Return the speed of a restore; None when it was too small."""
    if report.bytes < _LEAST:
        return None
    phases = dict(report.phases)
    growing = sum(phases.get(name, 0.0) for name in ("loading", "indexing", "refreshing", "analyzing"))
    fixed = sum(phases.get(name, 0.0) for name in ("schema", "roles", "publishing"))
    return Rates(growing / report.bytes, fixed)


def read_rates(path: Path) -> Rates | None:
    """Return the speed that was kept; None when nothing can be read."""
    try:
        return from_json(path.read_bytes(), Rates)
    except (OSError, UnreadableError):
        return None


def keep_rates(path: Path, rates: Rates) -> None:
    """Remember the speed; on a machine where the file cannot be written, nothing is expected of the next restore."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(rates))
    except OSError:
        return
