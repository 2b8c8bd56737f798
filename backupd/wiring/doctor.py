"""The examination of this machine: what `backupd doctor` looks at, as each unit that this user may act for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.clock import is_synchronised
from backupd.config.checks import advice
from backupd.config.faults import Finding as Fault
from backupd.config.faults import spell
from backupd.config.files import file_findings, secret_files, unavailable_credentials
from backupd.config.schema import Role, SftpStoreSection
from backupd.config.units import UNITS, unit_credentials
from backupd.errors import BackupdError, ConfigError
from backupd.model.diagnosis import CredentialFacts, Diagnosis, DiagnosisArea, DiagnosisResult, StoreLook
from backupd.model.ids import RegionName
from backupd.operations.service.jobs import JobKind
from backupd.planning import doctor as verdicts
from backupd.wiring.context import QUICKLY, Context, given_tags, open_store, source_of, tenancy_of
from backupd.wiring.daemon import is_given, is_set_up_for, timetable_advice, timetable_findings
from backupd.wiring.drill import drill_advice
from backupd.wiring.keeper import handoff_stores, has_keeper_key, key_findings, stores_with_own_keeper_account

if TYPE_CHECKING:
    from datetime import timedelta

    from backupd.operations.doctor import StoreExamination


@dataclass(frozen=True, slots=True)
class Patient:
    """One unit of this machine, or this process itself, with the rights that it has."""

    name: str
    """One of the units' names; empty for this process."""
    context: Context


@dataclass(frozen=True, slots=True)
class Examination:
    """The wish of `backupd doctor`."""

    context: Context
    credentials: Path
    """The folder with a folder of credentials for each unit."""
    regions: Sequence[RegionName]
    probe: bool = False
    """Whether to try by writing what stores can do."""
    notify: bool = False
    """Whether to send a test message to everybody who is notified."""
    seen: set[str] = field(default_factory=set)
    """Stores whose repository was looked at already."""

    def run(self) -> Iterator[Diagnosis]:
        """Yield every diagnosis once, as it is made."""
        said: set[Diagnosis] = set()
        for diagnosis in self._all():
            if diagnosis not in said:
                said.add(diagnosis)
                yield diagnosis

    def _all(self) -> Iterator[Diagnosis]:
        patients = self._patients()
        for patient in patients:
            yield from _configuration(patient)
        yield from self._units()
        yield from self._folders()
        yield verdicts.judge_synchronised(is_synchronised())
        for patient in patients:
            yield from self._databases(patient)
            yield from self._stores(patient)
        yield from self._drills()
        yield from self._timetables()
        yield from self._notifications(patients)

    def _patients(self) -> list[Patient]:
        """Return the units whose credentials root can hand over; where there are none, this process alone."""
        environ, found = self.context.environ, []
        if not environ.get("CREDENTIALS_DIRECTORY") and unavailable_credentials(self.context.config, environ):
            for unit in UNITS:
                folder = self.credentials / unit
                if os.access(folder, os.R_OK | os.X_OK) and any(folder.iterdir()):
                    handed = {**environ, "CREDENTIALS_DIRECTORY": str(folder)}
                    found.append(Patient(unit, replace(self.context, environ=handed)))
        return found or [Patient("", self.context)]

    def _units(self) -> Iterator[Diagnosis]:
        from backupd.operations.doctor import observe_credentials

        config = self.context.config
        if self.context.environ.get("CREDENTIALS_DIRECTORY") or not any(
            reference.is_credential for _, reference in secret_files(config)
        ):
            return
        for unit in UNITS:
            folder, own = self.credentials / unit, unit_credentials(config, unit)
            files = observe_credentials(folder)
            if files is None:
                message = f"{folder} is closed to this user; root sees it, and `backupd-as {unit} doctor` uses it"
                yield _line(DiagnosisArea.CREDENTIALS, unit, DiagnosisResult.UNSEEN, message)
            else:
                yield from verdicts.judge_credentials(
                    CredentialFacts(
                        unit=unit,
                        folder=str(folder),
                        files=files,
                        needed=own.needed,
                        optional=own.optional,
                        forbidden=own.forbidden,
                    )
                )

    def _folders(self) -> Iterator[Diagnosis]:
        from backupd.operations.doctor import observe_folder

        node = self.context.config.node
        yield from verdicts.judge_folder(observe_folder("node.state_dir", node.state_dir))
        if node.signing_key_file is not None:
            yield from verdicts.judge_folder(observe_folder("node.spool_dir", node.spool_dir, node.spool_size))

    def _databases(self, patient: Patient) -> Iterator[Diagnosis]:
        for region in self.regions:
            if is_set_up_for(patient.context, region, JobKind.BACKUP) and is_given(
                patient.context, region, JobKind.BACKUP
            ):
                for label in patient.context.databases(region):
                    yield from _database(patient.context, region, label)
            elif patient.name in ("", "node"):
                message = "not looked at: this process has no keys to back it up with"
                yield _line(DiagnosisArea.DATABASES, region, DiagnosisResult.UNSEEN, message)
            if is_set_up_for(patient.context, region, JobKind.SYNC) and is_given(patient.context, region, JobKind.SYNC):
                yield from _query(patient.context, region)

    def _stores(self, patient: Patient) -> Iterator[Diagnosis]:
        role: Role = "keeper" if has_keeper_key(patient.context) and patient.name != "drill" else "writer"
        for region in self.regions:
            for name in patient.context.stores_of(region):
                yield from self._store(patient, region, name, role)

    def _store(self, patient: Patient, region: RegionName, name: str, role: Role) -> Iterator[Diagnosis]:
        from backupd.operations.doctor import observe_store
        from backupd.operations.tenant_key import check_tenant_key
        from backupd.repository.repository import Repository

        context, place = patient.context, f"{region} on {name}"
        section = context.config.stores[name]
        if isinstance(section, SftpStoreSection) and not section.credential(role).key.is_given(context.environ):
            message = f"not looked at: {section.credential(role).key.text} was not handed to this process"
            yield _line(DiagnosisArea.STORES, place, DiagnosisResult.UNSEEN, message)
            return
        try:
            with closing(open_store(context, region, name, QUICKLY, role)) as store:
                repository = Repository(store, context.trusted_signers(), context.trusted_keepers(), region)
                look = observe_store(repository, store, self._asked(patient, region, name))
                tags = given_tags(context, region) if look.exists and look.error is None else None
                if tags is not None:
                    check_tenant_key(repository, tags)
        except BackupdError as error:
            look = StoreLook(error=(error.message, error.hint))
        if look.offset is not None:
            yield verdicts.judge_clock(place, look.offset, _tolerance(context))
        elif look.error is None and look.exists and place not in self.seen:
            message = "nobody asked for its time; `backupd doctor --probe` writes a small file to see it"
            yield _line(DiagnosisArea.CLOCKS, place, DiagnosisResult.UNSEEN, message)
        if place in self.seen and look.error is None:
            # The first unit said all that is not about its own account.
            look = StoreLook(exists=look.exists, append_only=None, separate_keeper=True)
        self.seen.add(place)
        if role == "keeper":
            # What the keeper's account may do says nothing of the writer's.
            look = replace(look, append_only=None)
        yield from verdicts.judge_store(region, name, look, patient.name)

    def _asked(self, patient: Patient, region: RegionName, name: str) -> StoreExamination:
        from backupd.operations.doctor import StoreExamination

        context = patient.context
        return StoreExamination(
            memory=context.state_folder(region, name),
            signers=context.config.trust.signers,
            keepers=context.config.trust.keepers,
            handing=name in handoff_stores(context, region),
            separate_keeper=not isinstance(context.config.stores[name], SftpStoreSection)
            or name in stores_with_own_keeper_account(context, region),
            probe=self.probe,
            clock=context.clock,
            random=os.urandom,
        )

    def _drills(self) -> Iterator[Diagnosis]:
        section = self.context.config.drill
        if section is None or not _has_scratch_servers(self.context):
            return
        from backupd.postgres.scratch.programs import runner

        try:
            runner(section.user)
        except ConfigError as error:
            yield _line(DiagnosisArea.PROGRAMS, "drill", DiagnosisResult.FAULT, error.message, error.hint)
            return
        message = "scratch servers are shut in, without files, processes or a network of this machine"
        yield _line(DiagnosisArea.PROGRAMS, "drill", DiagnosisResult.WELL, message)

    def _timetables(self) -> Iterator[Diagnosis]:
        area = DiagnosisArea.TIMETABLES
        found = [_of_fault(area, fault, DiagnosisResult.FAULT) for fault in timetable_findings(self.context)]
        found += [_of_fault(area, fault, DiagnosisResult.ADVICE) for fault in timetable_advice(self.context)]
        yield from found
        if not found:
            yield _line(area, "schedule", DiagnosisResult.WELL, "what is due keeps what is promised")

    def _notifications(self, patients: Sequence[Patient]) -> Iterator[Diagnosis]:
        from backupd.wiring.status import monitoring_settings, notify_hint

        area, notify = DiagnosisArea.NOTIFICATIONS, self.context.config.notify
        if not notify.urls:
            message, hint = "nobody is notified when something is wrong", "Name a file of targets as notify.urls."
            yield _line(area, "notify.urls", DiagnosisResult.ADVICE, message, hint)
        patient = next((one for one in patients if _has_targets(one)), None)
        if patient is None:
            if notify.urls:
                message = "not looked at: the files were not handed to this process"
                yield _line(area, "notify.urls", DiagnosisResult.UNSEEN, message)
            return
        settings = monitoring_settings(patient.context, self.regions)
        for fault in settings.faults:
            yield _line(area, "notify", DiagnosisResult.FAULT, fault, notify_hint(fault))
        failures: Mapping[str, str] | None = None
        if self.notify and settings.targets:
            from backupd.operations.monitoring.messages import SendAttempts, test_message

            message_ = test_message(settings.machine)
            tasks = {one.name: lambda one=one: one.send(message_) for one in settings.targets}
            failures = SendAttempts().make(tasks, settings.timeout)
        for target in settings.targets:
            yield verdicts.judge_delivery(target.name, None if failures is None else failures.get(target.name, ""))
        for beat in settings.heartbeats:
            message = "not requested: a request says that all is well"
            yield _line(area, beat.name, DiagnosisResult.UNSEEN, message)


def _configuration(patient: Patient) -> Iterator[Diagnosis]:
    """Yield the faults of the files that the configuration names, and advice about it."""
    context, area = patient.context, DiagnosisArea.CONFIGURATION
    found = list(file_findings(context.config, context.environ)) or list(key_findings(context))
    yield from (_of_fault(area, fault, DiagnosisResult.FAULT) for fault in found)
    unwise = [*advice(context.config), *drill_advice(context)]
    yield from (_of_fault(area, fault, DiagnosisResult.ADVICE) for fault in unwise)
    for name in () if patient.name else unavailable_credentials(context.config, context.environ):
        message = "not looked at: only systemd hands it over (`backupd-as node doctor`)"
        yield _line(area, name, DiagnosisResult.UNSEEN, message)
    if not found:
        known = "the files that it names" if not patient.name else f"the files of the unit {patient.name}"
        yield _line(area, "files", DiagnosisResult.WELL, f"{known} are what they should be")


def _database(context: Context, region: RegionName, label: str) -> Iterator[Diagnosis]:
    """Yield what a backup would refuse, what else is wrong with server and role, its clock, and the programs for it."""
    from backupd.operations.doctor import observe_server
    from backupd.operations.preflight import check_source
    from backupd.postgres.client_programs import find_programs
    from backupd.postgres.scratch.programs import find_server

    place, area = f"{region}/{label}", DiagnosisArea.DATABASES
    source = source_of(context, region, label)
    required = context.config.regions[region].databases[label].incremental == "require"
    found = check_source(source, tenancy_of(context, region, label), "require" if required else "off")
    try:
        server = observe_server(source, context.clock)
    except BackupdError:
        # `check_source` said why.
        yield from verdicts.judge_findings(area, place, found)
        return
    beyond = list(verdicts.judge_server(place, server, context.clock.now()))
    yield from verdicts.judge_findings(area, place, found, "" if beyond else "the role can back up all of it")
    yield from beyond
    yield verdicts.judge_clock(place, server.offset, _tolerance(context))
    major, folders = server.version // 10000, context.config.node.client_dirs
    try:
        programs = find_programs(folders, server.version)
        version = ".".join(map(str, programs.version))
        message = f"{programs.folder} has version {version}, for a server of version {major}"
        yield _line(DiagnosisArea.PROGRAMS, place, DiagnosisResult.WELL, message)
        if _has_scratch_servers(context):
            scratch = find_server(folders, major)
            message = f"{scratch.folder} has version {scratch.version}, for drills"
            yield _line(DiagnosisArea.PROGRAMS, place, DiagnosisResult.WELL, message)
    except ConfigError as error:
        yield _line(DiagnosisArea.PROGRAMS, place, DiagnosisResult.FAULT, error.message, error.hint)


def _query(context: Context, region: RegionName) -> Iterator[Diagnosis]:
    """Yield whether the query for tenants' dates can be run, and returns what it should."""
    from backupd.postgres.lifecycle_query import read_tenant_dates
    from backupd.wiring.keeper import lifecycle_query

    place, area = f"{region} lifecycle query", DiagnosisArea.DATABASES
    try:
        read_tenant_dates(*lifecycle_query(context, region))
    except BackupdError as error:
        yield _line(area, place, DiagnosisResult.FAULT, error.message, error.hint)
    else:
        yield _line(area, place, DiagnosisResult.WELL, "returns tenants and their dates")


def _has_scratch_servers(context: Context) -> bool:
    """Say whether drills here make servers of their own."""
    drill = context.config.drill
    return drill is not None and drill.target_dsn is None and drill.target_service is None


def _has_targets(patient: Patient) -> bool:
    notify = patient.context.config.notify
    return any(file.is_given(patient.context.environ) for file in (*notify.urls, *notify.heartbeat))


def _tolerance(context: Context) -> timedelta:
    from backupd.operations.ledger import TOLERANCE

    return context.config.keeper.clock_tolerance if context.config.keeper is not None else TOLERANCE


def _of_fault(area: DiagnosisArea, fault: Fault, result: DiagnosisResult) -> Diagnosis:
    path, message, hint = fault
    return _line(area, spell(path), result, message, hint)


def _line(area: DiagnosisArea, place: str, result: DiagnosisResult, message: str, hint: str = "") -> Diagnosis:
    return Diagnosis(area=area, place=place, result=result, message=message, hint=hint)
