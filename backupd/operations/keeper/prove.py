"""Prove that the promised deletion window is kept: by the configuration's numbers, and by what the keeper observed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from backupd.model.findings import Finding, errors_among
from backupd.model.ids import RegionName
from backupd.model.ledger import Observed
from backupd.model.text import parse_stamp
from backupd.operations.tenants.standing import TenantStanding, standings
from backupd.planning.deadlines import (
    DeletionBudget,
    Observation,
    Proof,
    Term,
    as_observed,
    check_observed,
    check_repair_slack,
    prove,
    repair_terms,
)
from backupd.planning.incarnations import State
from backupd.store.server import snapshot_time

if TYPE_CHECKING:
    from backupd.operations.ledger import Book

_LOOKED_BACK = timedelta(days=90)
"""How far back observations count; older gaps between keeper runs say nothing of today."""


@dataclass(frozen=True, slots=True)
class InScope:
    """A place, or a declared kind of place, that has copies of keyrings and of everything else."""

    kind: Literal["store", "store-snapshots", "declared"]
    name: str
    kept: timedelta | None
    """The longest time that a copy was seen to live or is declared to live; None when it stays until it is removed."""


@dataclass(frozen=True, slots=True)
class RegionProof:
    """The proof whether one region's promise is kept."""

    region: RegionName
    configured: Proof
    actual: Proof
    """The same proof with every term as it was observed, where that is more than was declared."""
    findings: tuple[Finding, ...]
    tenants: tuple[TenantStanding, ...]
    """Tenants who are leaving, as they stand."""
    repairs: tuple[Term, ...] = ()
    """The repairs for which the slack has room, or must have."""
    copies: tuple[InScope, ...] = ()
    """Every known copy of keyrings: all of them must be gone before a tenant is."""

    @property
    def holds(self) -> bool:
        late = any(tenant.overdue for tenant in self.tenants)
        return self.configured.holds and self.actual.holds and not errors_among(self.findings) and not late


def prove_region(
    book: Book, budget: DeletionBudget, now: datetime, copies: Mapping[str, timedelta] | None = None
) -> RegionProof:
    """Prove a region's deletion window; the observations are read from the ledger, where keeper runs wrote them.

    `copies` are the declared kinds of copies, with how long one lives at most.
    """
    findings: list[Finding] = [*check_repair_slack(budget)]
    actual, seen = budget, _observations(book, now)
    for name, observation in seen.items():
        findings += (_named(finding, name) for finding in check_observed(budget, observation))
        actual = as_observed(actual, observation)
    leaving = [one for one in standings(book.states, now, budget.expiry_gap) if one.state is not State.ACTIVE]
    return RegionProof(
        region=book.chain.region,
        configured=prove(budget),
        actual=prove(actual),
        findings=tuple(findings),
        tenants=tuple(leaving),
        repairs=repair_terms(budget),
        copies=(*_in_scope(book, seen), *(InScope("declared", name, keep) for name, keep in (copies or {}).items())),
    )


def _in_scope(book: Book, seen: Mapping[str, Observation]) -> Iterable[InScope]:
    for name in book.stores:
        yield InScope("store", name, None)
        ages = seen[name].snapshot_ages if name in seen else ()
        if ages:
            yield InScope("store-snapshots", name, max(ages))


def _observations(book: Book, now: datetime) -> dict[str, Observation]:
    """Return by store how old its own snapshots were seen to be, and when the keeper looked."""
    ages: dict[str, list[timedelta]] = {}
    runs: dict[str, list[datetime]] = {}
    for entry in book.chain.entries():
        at = parse_stamp(entry.at)
        if now - at > _LOOKED_BACK:
            continue
        for event in entry.events:
            if isinstance(event, Observed):
                runs.setdefault(event.store, []).append(at)
                ages.setdefault(event.store, []).extend(_ages(event.snapshots, at))
    return {name: Observation(tuple(ages[name]), tuple(seen), since=min(seen), now=now) for name, seen in runs.items()}


def _ages(snapshots: Iterable[str], at: datetime) -> Iterable[timedelta]:
    made = (snapshot_time(name) for name in snapshots)
    return [at - instant for instant in made if instant is not None]


def _named(finding: Finding, store: str) -> Finding:
    return Finding(finding.severity, finding.code, f"store '{store}': {finding.message}", finding.hint)
