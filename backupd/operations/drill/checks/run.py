"""Make all checks of one drill, in the order of their numbers; one that cannot be made does not stop the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backupd.errors import BackupdError, SourceBusyError, SourceGoneError
from backupd.model.report import Check, CheckName, Deletion, Measured, Sizes
from backupd.operations.drill.checks import canary, integrity, policy, rows, structure
from backupd.operations.drill.types import bounded, undecided

if TYPE_CHECKING:
    from backupd.operations.drill.checks.canary import Again
    from backupd.operations.drill.checks.structure import Structure
    from backupd.operations.drill.types import DrillScene, RowComparison

_STRUCTURE = (
    CheckName.SEQUENCES,
    CheckName.CONSTRAINTS,
    CheckName.INDEXES,
    CheckName.EXTENSIONS,
    CheckName.GLOBALS,
)
_ASKED = frozenset({CheckName.EQUALITY, *_STRUCTURE, CheckName.PURGED, CheckName.CANARY})
"""Checks whose numbers depend on what the scratch server answers."""


class DrillChecks:
    """The checks of one restored database."""

    def __init__(self, scene: DrillScene, scratch: Path) -> None:
        self._scene = scene
        self._scratch = scratch
        self.checks: dict[CheckName, Check] = {}
        self._compared: RowComparison | None = None
        self.deletion: Deletion | None = None
        self.error: BackupdError | None = None
        """The first error for which a check could not be made; a report has its code only."""

    def run(self) -> None:
        """Make the checks about what was restored.

        Raises SourceGoneError and SourceBusyError: without a server nothing can be found out.
        """
        scene = self._scene
        self._make(CheckName.RECORDS, partial(integrity.check_records, scene.subject, scene.names))
        self._make(CheckName.AUTHENTIC, self._authentic)
        self._make(CheckName.EQUALITY, self._equality)
        self._structure()
        self._make(CheckName.ASSERTIONS, partial(policy.check_assertions, scene))
        self._make(CheckName.PURGED, self._purged)
        self._make(CheckName.ESCROW, partial(policy.check_escrow, scene))

    def measures(self, measured: Measured, sizes: Sizes | None, again: Again) -> dict[CheckName, Check]:
        """Make the checks about what was measured, and the canary check; returns these only."""
        before, scene = set(self.checks), self._scene
        row_count = sizes.rows if sizes else 0
        self._make(CheckName.FRESHNESS, partial(policy.check_freshness, scene, measured.rpo or 0))
        self._make(CheckName.COMPARISON, partial(policy.check_comparison, scene, row_count))
        self._make(CheckName.OBJECTIVES, partial(policy.check_objectives, scene.environment.objectives, measured))
        self._make(CheckName.CANARY, partial(self._canary, again))
        return {name: check for name, check in self.checks.items() if name not in before}

    def _make(self, name: CheckName, make: Callable[[], Check]) -> None:
        try:
            check = make()
            self.checks[name] = bounded(check, structure.count_listed(self._scene)) if name in _ASKED else check
        except (SourceGoneError, SourceBusyError):
            raise
        except BackupdError as error:
            self.error = self.error or error
            self.checks[name] = undecided(name, type(error).__name__.removesuffix("Error").lower())

    def _authentic(self) -> Check:
        subject = self._scene.subject
        check, _, _ = integrity.check_authentic(
            subject.repository, subject.choice, self._scratch, self._scene.names, subject.history
        )
        return check

    def _equality(self) -> Check:
        check, self._compared = rows.check_equality(self._scene)
        return check

    def _structure(self) -> None:
        read: list[Structure] = []
        scene = self._scene

        def sequences() -> Check:
            read.append(structure.read_structure(scene))
            return structure.check_sequences(scene, read[0])

        self._make(CheckName.SEQUENCES, sequences)
        if not read:
            because = self.checks[CheckName.SEQUENCES].findings[0].code
            self.checks |= {name: undecided(name, because) for name in _STRUCTURE}
            return
        self._make(CheckName.CONSTRAINTS, partial(structure.check_constraints, scene, read[0]))
        self._make(CheckName.INDEXES, partial(structure.check_indexes, scene, read[0]))
        self._make(CheckName.EXTENSIONS, partial(structure.check_extensions, scene, read[0]))
        self._make(CheckName.GLOBALS, partial(structure.check_globals, scene, read[0]))
        self._add_to_equality(read[0])

    def _add_to_equality(self, read: Structure) -> None:
        """Add faults of the schema that no other check reports: a table made differently is not equal to its source."""
        faults = structure.other_faults(self._scene, read)
        before = self.checks[CheckName.EQUALITY]
        if faults:
            check = Check.of(CheckName.EQUALITY, "fail", before.examined, [*before.findings, *faults])
            self.checks[CheckName.EQUALITY] = bounded(check, structure.count_listed(self._scene))

    def _purged(self) -> Check:
        check, self.deletion = policy.check_purged(self._scene, self._compared)
        return check

    def _canary(self, again: Again) -> Check:
        check, seen = canary.check_canary(self._scene, self._compared, again)
        if self.deletion is not None:
            self.deletion = msgspec.structs.replace(self.deletion, canary=seen)
        return check
