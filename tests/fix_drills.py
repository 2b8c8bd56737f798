"""Drills of a region: their own identity, a folder for their servers, and a hook between restore and checks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fix_regions import Region

from backupd.clock import SystemClock
from backupd.model.documents import Record
from backupd.model.ids import Pseudonym
from backupd.model.report import Check, CheckName, Objectives, Report
from backupd.operations.drill import DrillEnvironment, DrillOutcome, DrillPlace, DrillRequest, drill
from backupd.postgres.connect import Source, parameters
from backupd.repository.repository import Repository


@dataclass
class Drills:
    """Drills of one region's one store."""

    region: Region
    world: DrillEnvironment
    repository: Repository | None = None
    outcomes: list[DrillOutcome] = field(default_factory=list)

    def run(self, request: DrillRequest | None = None, *tampering: str, **changes: Any) -> Report:
        """Drill, after doing these statements to the restored database."""

        def between(source: Source) -> None:
            tamper(source, *tampering)

        world = replace(self.world, tenancies={self.region.label: self.region.tenancy}, between=between)
        repository = self.repository or Repository(self.region.store, [self.region.node.signer.public])
        outcome = drill(request or DrillRequest(), repository, replace(world, **changes))
        self.outcomes.append(outcome)
        return outcome.report


def tamper(source: Source, *statements: str) -> None:
    with psycopg.connect(**parameters(source), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def segments_of(region: Region, record: Record, tenant: str | None) -> list[Pseudonym]:
    """A tenant's segments in a snapshot, or the shared ones."""
    keys = region.repository.open_keys(region.identity.secret, [record.generation])
    manifests = region.repository.sections(record).manifests
    return [segment for segment, section in manifests.items() if keys.of(section.row).name.tenant == tenant]


def check(report: Report, name: str) -> Check:
    return report.checks[CheckName(name).number - 1]


def codes(report: Report, name: str) -> list[str]:
    return [finding.code for finding in check(report, name).findings]


def verdicts(report: Report) -> dict[str, str]:
    return {str(one.name): one.verdict for one in report.checks}


@pytest.fixture
def drills_of(tmp_path: Path) -> Callable[[Region], Drills]:
    def make(region: Region) -> Drills:
        parent = Path("/tmp") / f"drills-{os.urandom(4).hex()}"
        made.append(parent)
        world = DrillEnvironment(
            identity=region.identity.secret,
            place=DrillPlace(parent, (), "postgres", 8 << 30, timedelta(minutes=5), timedelta(minutes=5)),
            clock=SystemClock(),
            trace=region.events,
            random=os.urandom,
            machine="test",
            store="disk",
            tenancies={},
            objectives=Objectives(),
        )
        return Drills(region, world)

    made: list[Path] = []
    yield make
    for parent in made:
        assert not parent.exists() or list(parent.iterdir()) == []
        if parent.exists():
            parent.rmdir()


@pytest.fixture
def drills(region: Region, drills_of: Callable[[Region], Drills]) -> Drills:
    return drills_of(region)
