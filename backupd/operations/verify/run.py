"""Verify a repository: documents, listing, headers, bytes, and with an identity the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from backupd.model.ids import GenerationId, ObjectName, SnapshotName
from backupd.operations.ledger.history import LedgerHistory, LedgerReading, read_ledger
from backupd.operations.phases import Phases
from backupd.operations.verify.generation import GenerationCheck, GenerationResult
from backupd.operations.verify.types import CheckedGeneration, Scope, Tools, Verification
from backupd.planning.ledger_facts import names_store
from backupd.planning.verify import Mismatch, broken_links
from backupd.repository import help_files, layout
from backupd.repository.ledger import Chain
from backupd.repository.own_ledger import read_own
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.store.base import ObjectInfo
from backupd.trace import PhaseDone


def verify(repository: Repository, checked: CheckedState, scope: Scope, tools: Tools) -> Verification:
    """Compare what lies on the store with its signed records.

    Returns what was found, good or bad; nothing is changed on the store. Objects of a run under way show as orphans or
    leftovers, never as damage, and what the ledger says a keeper removed is no damage either. Raises KeyRefusedError
    when an identity is given that does not open the keyrings, what `repository.info()` raises, and the store's errors:
    then there is no verdict.
    """
    started = tools.clock.monotonic()
    info = repository.info()
    checked.belong_to(info.repository)
    with Phases(tools.clock, tools.trace, info.region).phase("listing", unit="objects"):
        # 1. Records: what they name was there before them, so a run under way is not damage. 2. All that lies there.
        by_generation = _by_generation(repository)
        others = _Others(checked.take_listing(repository.store.list(ObjectName(""))))
    # 3. The ledger, after both: a removal that it does not explain was not a keeper's.
    seen = read_ledger(repository, tools.own_ledger, tools.threads, scope.at_least)
    history = LedgerHistory(repository, seen, tools.store)
    # 4. One generation after the other, so that memory holds one.
    generations = sorted({*by_generation, *others.keyrings, *checked.generations()})
    unfilled = not generations and _is_new(seen, checked, scope, tools)
    findings = _wrong_already(repository, seen, unfilled=unfilled)
    previous: dict[SnapshotName, SnapshotName | None] = {}
    results: list[GenerationResult] = []
    for generation in generations:
        check = GenerationCheck(CheckedGeneration(repository, generation, checked, scope, tools))
        result = check.run(by_generation.get(generation, []), others.keyrings.get(generation, []), history)
        previous |= {name: before or previous.get(name) for name, before in result.previous.items()}
        findings += result.findings
        results.append(result)
    # 5. The chain of records, and those that were there the last time.
    findings += _gone(repository, previous, checked.records(), history)
    checked.remember_records(name for result in results for name in result.believed)
    _witness(history, tools, findings)
    tools.trace.emit(PhaseDone("verifying", info.region, tools.clock.monotonic() - started))
    return Verification(
        region=info.region,
        snapshots=len(previous),
        generations=len(results),
        keyrings=sum(len(names) for names in others.keyrings.values()),
        packs=sum(result.packs for result in results),
        sections=sum(result.sections for result in results),
        size=sum(result.size for result in results),
        read=sum(result.read for result in results),
        read_size=sum(result.read_size for result in results),
        opened=sum(result.opened for result in results),
        orphans=tuple(name for result in results for name in result.orphans),
        orphans_size=sum(size for result in results for size in result.orphans.values()),
        leftovers=tuple(others.leftovers),
        foreign=tuple(others.foreign),
        entries=len(history.chain.links),
        purged=sum(result.purged for result in results),
        unpurged=sum(result.unpurged for result in results),
        aged=sum(result.aged for result in results),
        proven=tuple(sorted(name for result in results for name in result.proven)),
        findings=tuple(sorted(findings)),
        unnamed_keepers=repository.unnamed_keepers,
        other_help=help_files.of_others(info.help),
        unfilled=unfilled,
    )


def _wrong_already(repository: Repository, seen: LedgerReading, *, unfilled: bool) -> list[Mismatch]:
    """Return what is wrong with the help for people and, but on a store where nothing ever was, with the ledger."""
    helps = help_files.altered(repository.store, repository.info().help)
    return [*(() if unfilled else seen.wrong), *(Mismatch(*one) for one in helps)]


def _by_generation(repository: Repository) -> dict[GenerationId, list[SnapshotName]]:
    found: dict[GenerationId, list[SnapshotName]] = defaultdict(list)
    for generation, name in repository.records():
        found[generation].append(name)
    return found


def _is_new(seen: LedgerReading, checked: CheckedState, scope: Scope, tools: Tools) -> bool:
    """Check that nobody here has ever seen anything on a store that lists no pack, no record and no keyring now.

    The ledger comes to a new store with the next change of it; one that speaks of the store was there already.
    """
    spoken_of = tools.store is None or names_store(seen.chain.entries(), tools.store)
    return not (seen.stored or seen.strays or checked.records() or scope.at_least or spoken_of)


def _witness(history: LedgerHistory, tools: Tools, findings: Sequence[Mismatch]) -> None:
    """Bring this machine's own copy of the ledger up to date, if it has one and nothing is wrong."""
    if tools.own_ledger is not None and not findings:
        empty = Chain(history.chain.region, history.chain.repository)
        read_own(tools.own_ledger, empty, history.keepers).mend(tools.own_ledger, history.chain)


class _Others:
    """Keyrings, leftovers and foreign objects that a listing shows beside packs and records."""

    def __init__(self, found: Iterable[ObjectInfo]) -> None:
        self.keyrings: dict[GenerationId, list[ObjectName]] = defaultdict(list)
        self.leftovers: list[ObjectName] = []
        self.foreign: list[ObjectName] = []
        for info in found:
            place = layout.place_of(info.name)
            if place.kind is layout.ObjectKind.KEYRING and place.generation:
                self.keyrings[place.generation].append(info.name)
            elif place.kind is layout.ObjectKind.TEMPORARY:
                self.leftovers.append(info.name)
            elif place.kind is layout.ObjectKind.FOREIGN:
                self.foreign.append(info.name)


def _gone(
    repository: Repository,
    previous: dict[SnapshotName, SnapshotName | None],
    known: set[SnapshotName],
    history: LedgerHistory,
) -> Iterable[Mismatch]:
    history.refresh()
    expired = history.explained.expired
    for name, before in broken_links(previous):
        if before in expired:
            continue
        where = layout.record_name(repository.generation_of(name), name)
        yield Mismatch(where, f"was written after record '{before}', which is missing")
    for name in sorted(known - previous.keys() - expired):
        yield Mismatch(name, "is a record that an earlier verify saw, and is missing")
