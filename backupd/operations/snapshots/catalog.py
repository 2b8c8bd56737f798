"""The catalog of a region: which snapshots lie on which of its stores, and what the ledger says of them there.

A store that cannot be reached is named with its error, and hides no other. A record is read from the first store that
has it: its name is its hash, so that all stores hold the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backupd.errors import UNSOUND, BackupdError, StoreError, UsageError
from backupd.model.ids import GenerationId, RegionName, SnapshotName
from backupd.operations.ledger.history import LedgerReading, read_ledger
from backupd.operations.phases import Phases
from backupd.operations.roll_call import roll_call
from backupd.operations.snapshots.records import SnapshotInfo, described
from backupd.operations.status.ages import LedgerFacts
from backupd.operations.status.ages import read_ledger as ledger_facts
from backupd.parallel import in_parallel
from backupd.planning.selection import candidates
from backupd.repository.repository import Repository
from backupd.store.base import Store
from backupd.trace import Progress

_READERS = 8
"""Records under way at once: each is a round trip."""


@dataclass(frozen=True, slots=True)
class SeenStore:
    """One store that answered, with the places of its records."""

    name: str
    repository: Repository
    places: Mapping[SnapshotName, GenerationId]
    reading: LedgerReading
    facts: LedgerFacts
    """What its ledger says of this store and of restores."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The snapshots of a region, from all stores that answered."""

    region: RegionName
    stores: tuple[SeenStore, ...]
    away: Mapping[str, BackupdError]
    """The other stores by name, each with its error."""
    snapshots: Mapping[SnapshotName, SnapshotInfo]
    """Every snapshot whose record was read and believed, oldest first."""
    damage: tuple[str, ...]
    """Sentences about records and ledgers that cannot be believed."""

    def having(self, name: SnapshotName) -> list[SeenStore]:
        """Return the stores on which the snapshot lies."""
        return [store for store in self.stores if name in store.places]

    def group_of(self, one: SnapshotInfo) -> list[SnapshotInfo]:
        """Return the snapshots of the same database, oldest first, itself among them."""
        return [other for other in self.snapshots.values() if other.group == one.group]

    def meant(self, wanted: str, database: str | None = None) -> SnapshotInfo:
        """Return the snapshot that is meant by its beginning, `latest` or a time, of one database label or of any.

        Raises UsageError when there is none, or when several begin like that.
        """
        names, one = candidates(list(self.snapshots), wanted)
        found = [name for name in names if database in (None, self.snapshots[name].database)]
        if not found:
            raise UsageError(
                f'no snapshot of "{self.region}" is meant', hint=f"`backupd snapshots {self.region}` lists them."
            )
        if one and len(found) > 1:
            raise UsageError("several snapshots begin like that", hint="Give more of the snapshot's name.")
        return self.snapshots[found[0]]


def read_catalog(
    region: RegionName, places: Iterable[tuple[str, Repository]], own: Store | None, phases: Phases
) -> Catalog:
    """Read every store's records and ledger; `own` is this machine's own copy of the ledger, if it has one.

    Raises the first store's error when none answers.
    """
    seen: list[SeenStore] = []
    repositories = dict(places)
    away: dict[str, BackupdError] = {**roll_call(repositories, phases)}
    with phases.phase("looking"):
        for name, repository in repositories.items():
            if name in away:
                continue
            try:
                seen.append(_seen(name, repository, own))
            except BackupdError as error:
                away[name] = error
        if not seen:
            raise next(away[name] for name in repositories)
    snapshots, damage = _read_records(seen, phases)
    damage += [
        f"{one.name}: {found.sentence}" for one in seen for found in (*one.reading.findings, *one.reading.lacking)
    ]
    return Catalog(region, tuple(seen), away, snapshots, tuple(damage))


def _seen(name: str, repository: Repository, own: Store | None) -> SeenStore:
    repository.info()
    places: dict[SnapshotName, GenerationId] = {}
    for generation, snapshot in repository.records():
        places.setdefault(snapshot, generation)
    reading = read_ledger(repository, own)
    return SeenStore(name, repository, places, reading, ledger_facts(reading.chain.entries()))


def _read_records(seen: Sequence[SeenStore], phases: Phases) -> tuple[dict[SnapshotName, SnapshotInfo], list[str]]:
    """Read each record from the first store that has a sound one."""
    names = sorted({name for store in seen for name in store.places})
    found: dict[SnapshotName, SnapshotInfo] = {}
    damage: list[str] = []

    def read(name: SnapshotName) -> SnapshotInfo:
        last: BackupdError | None = None
        for store in seen:
            if name in store.places:
                try:
                    return described(name, store.repository.record(name, store.places[name]))
                except (*UNSOUND, StoreError) as error:
                    last = error
        raise last or UsageError("no store has it")

    with phases.phase("reading", len(names), "records"):
        for place, (name, done) in enumerate(in_parallel(read, names, _READERS), start=1):
            try:
                found[name] = done.result()
            except BackupdError as error:
                damage.append(f"{name}: {error.message}")
            phases.emit(Progress("reading", bytes_in=place))
    return found, damage
