"""Choose which snapshot is drilled, by the store's records, the ledger, and the turns of earlier drills; and open
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, KeyRefusedError, RefusedError, UsageError
from backupd.model.documents import REDUCED, Record
from backupd.model.ids import GenerationId, ObjectHash, SnapshotName
from backupd.model.report import DrillSelection
from backupd.model.text import parse_stamp
from backupd.operations.drill.types import DrilledSnapshot
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.restore.choose import GenerationKeys, choose, read_history
from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest
from backupd.planning.drill import Chosen, DrillCandidate, choose_named, choose_snapshot
from backupd.planning.selection import Selection, candidates
from backupd.postgres.connect import Source
from backupd.postgres.schema.changes import SchemaChanges
from backupd.repository.keys import SecretKeys
from backupd.repository.packs import OpenPack, list_sections, open_packs
from backupd.repository.repository import Repository

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrillEnvironment, DrillRequest


@dataclass(frozen=True, slots=True)
class DrillChoice:
    """The snapshot that was chosen, with its record and the ledger."""

    chosen: Chosen
    record: Record
    history: LedgerHistory
    newest: datetime
    """When the newest snapshot of the chosen database was exported."""
    alike: frozenset[SnapshotName]
    """All snapshots of the chosen database."""


def choose_drill(request: DrillRequest, repository: Repository, environment: DrillEnvironment) -> DrillChoice:
    """Choose a snapshot, by a given name or by turns. Records that cannot be believed are left to the first check.

    Raises UsageError when there is nothing to choose, DamageError for a ledger that cannot be followed.
    """
    history = read_history(repository, restore_environment(environment))
    records: dict[SnapshotName, Record] = {}
    for generation, name in repository.records():
        if name not in history.explained.expired:
            try:
                records[name] = repository.record(name, generation)
            except UNSOUND:
                continue
    every = [
        DrillCandidate(name, record.generation, record.database, record.member, parse_stamp(record.exported))
        for name, record in records.items()
        if request.database in (None, record.database)
        and record.database in environment.tenancies
        and REDUCED not in record.extra  # what is left of one for a hold's sake is no database
    ]
    if request.tenant is not None:
        every = _of_tenant(request.tenant, every, (records, repository, environment.identity))
    chosen = (
        _named(request.snapshot, every) if request.snapshot else choose_snapshot(every, environment.past, request.seed)
    )
    one = chosen.candidate
    ours = [other for other in every if (other.database, other.member) == (one.database, one.member)]
    newest, alike = max(other.exported for other in ours), frozenset(other.name for other in ours)
    return DrillChoice(chosen, records[one.name], history, newest, alike)


def _of_tenant(
    tenant: str, every: list[DrillCandidate], at_hand: tuple[Mapping[SnapshotName, Record], Repository, bytes]
) -> list[DrillCandidate]:
    """Return the snapshots that hold anything of the tenant. Raises UsageError when none does, and KeyRefusedError."""
    records, repository, identity = at_hand
    generations = GenerationKeys(repository, identity)
    packs: dict[GenerationId, dict[ObjectHash, OpenPack]] = {}
    held = [
        one
        for one in every
        if tenant
        in _tenants(
            records[one.name], repository, generations.keys(one.generation), packs.setdefault(one.generation, {})
        )
    ]
    if not held:
        raise UsageError(
            "no snapshot holds anything of the tenant asked for",
            hint="Names are as in the database's tenant column or pattern; a purged tenant is in no snapshot.",
        )
    return held


def _tenants(
    record: Record, repository: Repository, keys: SecretKeys, packs: dict[ObjectHash, OpenPack]
) -> set[str | None]:
    """Return the tenants that a snapshot holds anything of; none for one that cannot be read. `packs` are filled in."""
    wanted = [sha256 for sha256, _, _ in record.packs if sha256 not in packs]
    found: set[str | None] = set()
    for sha256, pack in open_packs(repository.store, record.repository, record.generation, wanted):
        if not isinstance(pack, OpenPack):
            return found
        packs[sha256] = pack
    for section in list_sections(record, packs).manifests.values():
        with suppress(*UNSOUND, KeyRefusedError):
            found.add(keys.of(section.row).name.tenant)
    return found


def _named(wanted: str, every: list[DrillCandidate]) -> Chosen:
    by_name = sorted(every, key=lambda one: one.name)
    names, one = candidates([candidate.name for candidate in by_name], wanted)
    if not names or (one and len(names) > 1):
        raise UsageError(
            "the snapshot to drill is not there, or means several", hint="`backupd snapshots` lists what there is."
        )
    return choose_named(every, names[0])


def open_drilled(
    found: DrillChoice, repository: Repository, environment: DrillEnvironment, tenant: str | None = None
) -> DrilledSnapshot:
    """Open the chosen snapshot's keys, and choose what of it is restored.

    Raises KeyRefusedError, DamageError, RefusedError as a restore does.
    """
    request = _request(found.record, found.chosen.candidate.name, tenant)
    choice = choose(request, repository, restore_environment(environment), found.history)
    if not choice.segments:
        raise RefusedError("nothing of the snapshot is left to restore")
    return DrilledSnapshot(repository, found.chosen, found.record, choice, found.history, tenant, found.alike)


def restore_request(subject: DrilledSnapshot, target: Source, name: str) -> RestoreRequest:
    """Return the request for the drill's restore: everything under drill, with the roles."""
    return replace(_request(subject.record, subject.choice.snapshot, subject.tenant), target=target, name=name)


def _request(record: Record, snapshot: SnapshotName, tenant: str | None) -> RestoreRequest:
    return RestoreRequest(
        label=record.database,
        snapshot=snapshot,
        target=Source("dbname=postgres"),
        name="drill",
        jobs=2,
        roles=True,
        selection=Selection() if tenant is None else Selection(frozenset({tenant})),
        # Tablespaces are folders of the other machine.
        changes=SchemaChanges(no_tablespaces=True),
        purpose="drill",
        trial=True,
    )


def restore_environment(environment: DrillEnvironment) -> RestoreEnvironment:
    """Return what the drill's restore uses of the drill's environment."""
    return RestoreEnvironment(
        environment.identity,
        environment.clock,
        environment.trace,
        environment.random,
        store=environment.store,
        own_ledger=environment.own_ledger,
    )


def selection(found: DrillChoice, environment: DrillEnvironment, tenant: str | None = None) -> DrillSelection:
    """Return the choice as a report states it."""
    chosen, record = found.chosen, found.record
    return DrillSelection(
        snapshot=chosen.candidate.name,
        store=environment.store,
        database=record.database,
        exported=record.exported,
        generation=record.generation,
        rule=chosen.rule,
        seed=chosen.seed,
        population=chosen.population,
        tenants=None if tenant is None else 1,
        tenant=None if tenant is None or environment.tags is None else environment.tags.tenant_id(tenant),
    )
