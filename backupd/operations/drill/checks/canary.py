"""Check 12, the control of check 13: one tenant is treated as purged, and part of the snapshot is really restored
again.
"""

from __future__ import annotations

import glob
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from backupd.errors import EverythingPurgedError, KeyRefusedError, RefusedError, SourceError, UsageError
from backupd.model.ids import ObjectName
from backupd.model.report import Canary, CheckName
from backupd.model.tenancy import ForeignKeyPath
from backupd.operations.drill.checks.rows import compare
from backupd.operations.drill.types import Findings, skipped, undecided
from backupd.operations.ledger.history import LedgerHistory, LedgerReading
from backupd.planning.selection import Selection
from backupd.postgres.connect import connect
from backupd.postgres.source.inventory import read_inventory
from backupd.seal.keyring import parse_keyring, without_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from backupd.model.ids import Pseudonym
    from backupd.model.report import Check
    from backupd.operations.drill.types import DrillScene, RowComparison, TableToCompare
    from backupd.postgres.connect import Source

T = TypeVar("T")

if TYPE_CHECKING:
    Again = Callable[[Selection, LedgerHistory], Source]
    """Restores a second time, of a selection and under a ledger; where to. Raises as a restore does."""


@dataclass(frozen=True, slots=True)
class _CanaryTenant:
    """The tenant that is treated as purged."""

    tenant: str
    segments: frozenset[Pseudonym]


def check_canary(scene: DrillScene, compared: RowComparison | None, again: Again) -> tuple[Check, Canary | None]:
    """Check that a tenant can be restored, that a purge keeps out that tenant alone, and that a shredded key is missed.

    A tenant of the snapshot is treated as purged, in memory only. Its rows were read in the database that was restored.
    Then a restore under a ledger that lists it really loads one of its tables, with everybody else's rows of it, and
    these are read: none may be its own, and the others must be whole. A keyring without its lines must not open them.
    """
    if compared is None:
        return undecided(CheckName.CANARY, "rows-not-compared"), None
    canary = _smallest_tenant(scene)
    if canary is None:
        return skipped(CheckName.CANARY, "no-tenants"), None
    findings = Findings(CheckName.CANARY, len(canary.segments), scene.names)
    before = compared.rows[canary.tenant] > 0
    findings.each("canary-not-restored", [] if before else [_named(canary)])
    tasks = _chosen(compared, canary.tenant)
    after = _second(scene, canary, again, tasks, compared)
    came = after is not None and (after.rows[canary.tenant] > 0 or canary.tenant in after.strangers)
    findings.each("canary-came-back", [_named(canary)] if came else [])
    if after is not None:
        taken = [fault for fault in after.faults if fault.tenant != canary.tenant]
        findings.each("canary-took-others", [fault.what for fault in taken])
    findings.add("canary-key-opens-when-shredded", _still_open(scene, canary.segments))
    return findings.check(), Canary(resurrected=before, removed=not came)


def _second(
    scene: DrillScene, canary: _CanaryTenant, again: Again, tasks: list[TableToCompare], compared: RowComparison
) -> RowComparison | None:
    """Restore under a ledger that lists the tenant, and compare the rows.

    Returns None when nothing is left that could be restored.
    """
    whole = len(tasks) == len(compared.tasks)
    tables = [glob.escape(f"{task.table.name.schema}.{task.table.name.table}") for task in tasks]
    ours = scene.subject.tenant
    tenants = frozenset[str]() if ours is None else frozenset({ours})
    selection = Selection(tenants, tables=() if whole else tuple(tables), if_there=True)
    alone = ours is not None or not any(task.expected.keys() - {canary.tenant} for task in tasks)
    try:
        source = again(selection, _purged_too(scene, canary.segments))
    except EverythingPurgedError:
        return None  # nothing of the snapshot is anybody else's
    except SourceError as error:
        if whole or error.retryable:
            raise
        # A check of these tables may look into others, which are empty now: it is no fault of the backup.
        return _second(scene, canary, again, list(compared.tasks), compared)
    except UsageError:
        if not alone:
            raise
        return None  # nobody else was asked for
    left = [replace(task, expected=_without(task.expected, canary.tenant)) for task in tasks]
    sets = {root: _without(by_tenant, canary.tenant) for root, by_tenant in compared.sets.items()}
    with connect(source) as connection:
        there = read_inventory(connection).by_name()
    # A table in the tenant's own schema went with it; one with others' rows must be there to be read.
    return compare([task for task in left if task.expected or task.table.name in there], source, sets)


def _named(canary: _CanaryTenant) -> str:
    return f'tenant "{canary.tenant}"'


def _without(by_tenant: Mapping[str | None, T], tenant: str) -> dict[str | None, T]:
    return {one: rows for one, rows in by_tenant.items() if one != tenant}


def _chosen(compared: RowComparison, tenant: str) -> list[TableToCompare]:
    """Return the tenant's table that costs least to load, and a table with others' rows if it has none.

    Tables whose rows lead to their tenant through another table cannot be read alone, nor can partitions whose rows may
    be in others; if there are no others, all are.
    """
    alone = [
        task
        for task in compared.tasks
        if task.expected and task.root is None and not isinstance(task.mapped.route, ForeignKeyPath)
    ]
    ours = sorted((task for task in alone if tenant in task.expected), key=_size)
    if not ours:
        return list(compared.tasks)
    if ours[0].expected.keys() - {tenant}:
        return ours[:1]
    others = sorted((task for task in alone if task.expected.keys() - {tenant}), key=_size)
    return [ours[0], *others[:1]]


def _size(task: TableToCompare) -> tuple[int, str, str]:
    size = sum(size for spans in task.expected.values() for _, size, _ in spans)
    return size, task.table.name.schema, task.table.name.table


def _purged_too(scene: DrillScene, segments: frozenset[Pseudonym]) -> LedgerHistory:
    """Return a history in which these segments are purged, besides what the ledger says."""
    subject = scene.subject
    places = frozenset((subject.record.generation, segment) for segment in segments)
    reading = LedgerReading(subject.history.chain, ())
    return LedgerHistory(subject.repository, reading, scene.environment.store, places)


def _smallest_tenant(scene: DrillScene) -> _CanaryTenant | None:
    """Return the tenant with rows whose sections are the smallest, so that restoring again costs little."""
    choice, filled = scene.subject.choice, _filled(scene)
    by_tenant: dict[str, list[Pseudonym]] = {}
    for segment in choice.segments:
        tenant = choice.name_of(segment).tenant
        if tenant is not None:
            by_tenant.setdefault(tenant, []).append(segment)
    with_rows = {tenant: segments for tenant, segments in by_tenant.items() if not filled.isdisjoint(segments)}
    if not with_rows:
        return None
    sizes: Counter[Pseudonym] = Counter()
    for (segment, _), section in choice.sections.sections.items():
        sizes[segment] += section.row.length
    name = min(with_rows, key=lambda one: (sum(sizes[segment] for segment in with_rows[one]), with_rows[one][0]))
    return _CanaryTenant(name, frozenset(with_rows[name]))


def _filled(scene: DrillScene) -> set[Pseudonym]:
    """Return the segments of which the restore had rows to load."""
    pieces = (piece for bundles in scene.restored.plan.passes for bundle in bundles for piece in bundle)
    return {scene.subject.choice.segments[piece.segment] for piece in pieces}


def _still_open(scene: DrillScene, segments: frozenset[Pseudonym]) -> int:
    """Count the keys of the segments that open from keyrings without their lines, as a shred leaves them; none must."""
    repository = scene.subject.repository
    still = 0
    for keyring in repository.keyrings(scene.subject.record.generation):
        places = [place for place, (segment, _) in enumerate(keyring.index) if segment in segments]
        if not places:
            continue
        whole = repository.read(ObjectName(keyring.where), "keyring")
        cut = parse_keyring(without_lines(whole, keyring, segments), repository.signers, keyring.where)
        try:
            opened = cut.open(scene.environment.identity)
        except (KeyRefusedError, RefusedError):
            continue
        for place in places:
            with suppress(KeyError):
                still += bool(opened.key(place).key)
    return still
