"""Drill a restore:

1. Remove what crashed drills left behind.
2. Choose a snapshot, by turns; open its keys; read every segment's manifest.
3. Start a server of the drill's own, or take the one set aside; make sure that it is no server that is backed up.
4. Restore into it, from the store and never from the spool, as a person would in a disaster.
5. Check: records, bytes, rows, structure, deletion, age, the operator's own queries; restore a part again, as if one
   tenant were purged.
6. Stop the server, remove its files, and check that they are gone.
7. Report all of it, with the verdict that follows from the checks.

An error that stops the drill is in its report, too: a drill that could not find out has the verdict `error`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import backupd
from backupd.errors import (
    BackupdError,
    DamageError,
    ExtensionRefusedError,
    ObjectMissingError,
    SourceError,
    SpoolFullError,
)
from backupd.model.documents import RepositoryInfo
from backupd.model.ids import DrillId
from backupd.model.report import (
    Check,
    CheckFinding,
    CheckName,
    Deletion,
    Disposal,
    Disposed,
    Measured,
    Phase,
    Report,
    Sizes,
    Versions,
    verdict_of,
)
from backupd.model.text import compact, stamp
from backupd.operations.drill.checks.integrity import check_damage, damaged_copy
from backupd.operations.drill.checks.run import DrillChecks
from backupd.operations.drill.choose import (
    DrillChoice,
    choose_drill,
    open_drilled,
    restore_environment,
    restore_request,
    selection,
)
from backupd.operations.drill.named_findings import FindingNames
from backupd.operations.drill.server import drill_server, require_apart
from backupd.operations.drill.types import (
    DrilledSnapshot,
    DrillEnvironment,
    DrillOutcome,
    DrillRequest,
    DrillScene,
    RestoredDatabase,
    checks_reported,
)
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.phases import Phases
from backupd.operations.restore import RestoreReport, restore
from backupd.operations.restore.contents import SnapshotContents
from backupd.planning.drill import drill_type, find_repeated
from backupd.planning.incarnations import fold
from backupd.planning.selection import Selection
from backupd.postgres.client_programs import find_programs
from backupd.postgres.connect import Source, other_database
from backupd.postgres.scratch.cluster import reap
from backupd.postgres.scratch.folder import ScratchServer
from backupd.postgres.scratch.watch import PhaseLimits, limited
from backupd.repository.repository import Repository

_ROOM = 3
"""How many times its COPY text a database may take, with its indexes and the log of writing both; with less room, the
drill does not start."""
_OF_RESTORE = {"planning": "keys", "loading": "fetch"}
"""Names in a report for the phases of a restore; all others are `restore`."""


def drill(request: DrillRequest, repository: Repository, environment: DrillEnvironment) -> DrillOutcome:
    """Drill once; returns the outcome with every verdict, also `fail` and `error`.

    Raises InterruptedRunError when it is stopped, and what `repository.info()` raises: then there is nothing to report
    about. The report names no previous one and no performer: publishing fills these in.
    """
    info = repository.info()
    running = _Drill(request, repository, environment)
    try:
        running.run()
    except BackupdError as error:
        running.stopped(error)
    return running.outcome(info)


@dataclass(slots=True)
class _Made:
    """The pieces of a report, as far as the drill came."""

    checks: dict[CheckName, Check] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    found: DrillChoice | None = None
    versions: Versions = field(default_factory=lambda: Versions(backupd=backupd.__version__))
    measured: Measured = field(default_factory=Measured)
    sizes: Sizes | None = None
    deletion: Deletion | None = None
    disposal: Disposal = field(default_factory=lambda: Disposal(destroyed=[]))
    loading: bool = False
    """Whether the restore is running: a refusal of PostgreSQL is then a fault of the backup."""
    error: BackupdError | None = None
    names: FindingNames = field(default_factory=FindingNames)


class _Drill:
    """One drill under way; `outcome` can be asked for at any step."""

    def __init__(self, request: DrillRequest, repository: Repository, environment: DrillEnvironment) -> None:
        self._request = request
        self._repository = repository
        self._environment = environment
        self._made = _Made()
        self._started = environment.clock.now()
        self._began = environment.clock.monotonic()
        self._id = DrillId(f"{compact(self._started)}-{environment.random(4).hex()}")

    def run(self) -> None:
        environment, made = self._environment, self._made
        removed, remaining = reap(environment.place.parent)
        made.disposal = Disposal(destroyed=[], leftovers=removed, remaining=remaining)
        with self._phase("queue", "choosing"):
            found = made.found = choose_drill(self._request, self._repository, environment)
            made.measured = Measured(rpo=max(0, math.ceil((self._started - found.newest).total_seconds())))
        with self._phase("keys", "opening keys"):
            subject = open_drilled(found, self._repository, environment, self._request.tenant)
        with ExitStack() as stack:
            with self._phase("queue", "starting a server"):
                server = stack.enter_context(drill_server(environment, found.record.server // 10000))
            try:
                with subject.history.beside_keepers():
                    self._with(server, subject)
            finally:
                self._dispose(server)

    def _with(self, server: ScratchServer, subject: DrilledSnapshot) -> None:
        place = self._environment.place
        require_apart(server.source, self._environment.production)
        programs = find_programs(server.source.client_folders, subject.record.server)
        client = ".".join(map(str, programs.version))
        self._made.versions = Versions(backupd=backupd.__version__, server=server.version, client=client)
        if subject.tenant is None and subject.record.totals.bytes * _ROOM > min(place.size, server.free()):
            raise SpoolFullError(
                "there is no room for the scratch server's files",
                hint="Raise drill.max_size, or name a larger disk's folder as drill.scratch_dir.",
            )
        if self._request.damage:
            self._damage(server, subject)
            return
        name = server.name(subject.database)
        report = self._restore(server, subject, name)
        source = other_database(server.source, name)
        self._environment.between(source)
        with SnapshotContents(self._repository, subject.choice, 2) as contents:
            plan = contents.plan(exact=subject.choice.exact)
            objects = contents.needed()
            self._made.sizes = Sizes(
                rows=report.rows,
                bytes=report.bytes,
                segments=report.segments,
                objects=len(objects),
                fetched=sum(objects.values()),
            )
            self._check(
                server,
                DrillScene(
                    self._environment,
                    subject,
                    RestoredDatabase(source, contents, plan, server.roles, report.broken_keys, report.unfilled_views),
                    self._made.names,
                ),
            )

    def _restore(self, server: ScratchServer, subject: DrilledSnapshot, name: str, **other: Any) -> RestoreReport:
        # Rows may refer to what a purge took, or a backup left out because it was purged before: the drill proves the
        # rest and reports it. Nothing else excuses a key.
        purged = any(one.purge for one in fold(subject.history.chain.entries()).incarnations.values())
        request = replace(
            restore_request(subject, server.source, name),
            without_broken_keys=purged or not subject.choice.exact,
            keep_going=self._request.explain,
        )
        self._made.loading = True
        with self._limited(server, "restore"):
            report = restore(request, other.get("repository", self._repository), restore_environment(self._environment))
        self._made.loading = False
        for one in report.left_out:
            what = " ".join(filter(None, (one.kind, one.name)))
            self._made.names.add(CheckName.EQUALITY, "refused", what, [f"+ {one.reason}"])
        for phase, seconds in report.phases:
            self._took(_OF_RESTORE.get(phase, "restore"), seconds)
        return report

    def _limited(self, server: ScratchServer, phase: str) -> AbstractContextManager[None]:
        place = self._environment.place
        longest = place.check_limit if phase == "verify" else place.restore_limit
        return limited(server, phase, PhaseLimits(longest.total_seconds(), place.size))

    def _check(self, server: ScratchServer, scene: DrillScene) -> None:
        made, subject = self._made, scene.subject
        checking = DrillChecks(scene, server.path)
        with self._phase("verify", "checking"), self._limited(server, "verify"):
            checking.run()
        made.checks |= checking.checks
        elapsed = math.ceil(self._environment.clock.monotonic() - self._began)
        made.measured = Measured(rpo=made.measured.rpo, rto=elapsed)

        def again(selection: Selection, history: LedgerHistory) -> Source:
            name = server.name(subject.database, "canary")
            request = replace(
                restore_request(subject, server.source, name), selection=selection, without_broken_keys=True
            )
            with self._limited(server, "canary"):
                restore(request, self._repository, restore_environment(self._environment), history)
            source = other_database(server.source, name)
            self._environment.between_again(source)
            return source

        with self._phase("canary", "trial deletion"):
            made.checks |= checking.measures(made.measured, made.sizes, again)
        made.deletion, made.error = checking.deletion, checking.error

    def _damage(self, server: ScratchServer, subject: DrilledSnapshot) -> None:
        copy = damaged_copy(subject, self._request.seed)
        name = server.name(subject.database, "damaged")
        with self._phase("verify", "damaging a copy"):
            check = check_damage(
                subject, copy, server.path, lambda damaged: self._restore(server, subject, name, repository=damaged)
            )
        self._made.checks[CheckName.DAMAGE] = check

    def _dispose(self, server: ScratchServer) -> None:
        with self._phase("disposal", "destroying"):
            gone = server.dispose()
        before = self._made.disposal
        self._made.disposal = Disposal(
            destroyed=[*(Disposed(what, how) for what, how in gone.destroyed), Disposed("keys", "never-on-disk")],
            leftovers=before.leftovers,
            remaining=before.remaining + gone.remaining,
        )
        faults = [CheckFinding("left-behind", self._made.disposal.remaining)] if self._made.disposal.remaining else []
        verdict = Check.of(CheckName.DISPOSAL, "fail" if faults else "pass", 2, faults)
        self._made.checks[CheckName.DISPOSAL] = verdict

    def stopped(self, error: BackupdError) -> None:
        """Turn an error into a check: damage fails the backup, and so does a restore that PostgreSQL refuses.

        An extension that this server cannot make says nothing of the backup: then there is no verdict.
        """
        self._made.error = error
        code = type(error).__name__.removesuffix("Error").lower()
        if isinstance(error, DamageError | ObjectMissingError):
            name, verdict = CheckName.AUTHENTIC, "fail"
        elif isinstance(error, ExtensionRefusedError):
            name, verdict = CheckName.EQUALITY, "error"
        elif self._made.loading and isinstance(error, SourceError) and not error.retryable:
            name, verdict = CheckName.EQUALITY, "fail"
        else:
            name, verdict = CheckName.EQUALITY, "error"
        if self._request.damage:
            name, verdict = CheckName.DAMAGE, "error"
        self._made.checks[name] = Check.of(name, "fail" if verdict == "fail" else "error", 0, [CheckFinding(code)])

    def outcome(self, info: RepositoryInfo) -> DrillOutcome:
        """Return the report on what was made so far, with the error that stopped the drill."""
        made, environment, request = self._made, self._environment, self._request
        kind = drill_type(request.trigger, damage=request.damage)
        checks = checks_reported(made.checks.values(), damage=request.damage)
        chosen = selection(made.found, environment, request.tenant) if made.found else None
        report = Report(
            repository=info.repository,
            region=info.region,
            drill=self._id,
            type=kind,
            trigger=request.trigger,
            scheduled=stamp(request.scheduled) if request.scheduled else None,
            started=stamp(self._started),
            finished=stamp(environment.clock.now()),
            machine=environment.machine,
            location=environment.location,
            versions=made.versions,
            selection=chosen,
            objectives=environment.objectives,
            phases=[Phase(name, math.ceil(seconds * 1000)) for name, seconds in made.phases.items()],
            measured=made.measured,
            checks=checks,
            sizes=made.sizes,
            deletion=made.deletion,
            disposal=made.disposal,
            verdict=verdict_of(checks, kind),
            retest_of=find_repeated(environment.past, chosen) if chosen and not request.damage else None,
        )
        snapshot = made.found.chosen.candidate.name if made.found else None
        return DrillOutcome(report, snapshot, made.error, made.names.listed())

    @contextmanager
    def _phase(self, name: str, shown: str) -> Iterator[None]:
        """Time a part of the drill, by its name in the report; `shown` is what people who watch see."""
        phases = Phases(self._environment.clock, self._environment.trace, self._repository.info().region)
        with phases.phase(shown):
            yield
        self._took(name, phases.seconds())

    def _took(self, name: str, seconds: float) -> None:
        self._made.phases[name] = self._made.phases.get(name, 0.0) + seconds
