"""The verdicts of `backupd doctor` about observed facts. Pure; each says what to do where something is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from backupd.model.diagnosis import (
    CredentialFacts,
    Diagnosis,
    DiagnosisArea,
    DiagnosisResult,
    FolderFacts,
    ServerFacts,
    StoreLook,
)
from backupd.model.findings import Finding, Severity
from backupd.model.text import counted, human_bytes, human_duration

_ROOM: Final = 0.1
"""The part of a store's room below which the store counts as full."""
_DRIFT: Final = timedelta(seconds=30)
"""A difference of clocks that no synchronised machine has."""
_SOON: Final = timedelta(days=30)
"""The time that people need to give a role a new password."""
_PRIVATE: Final = 0o077
"""Permission bits by which others than the owner can use a file."""


def judge_findings(area: DiagnosisArea, place: str, findings: Iterable[Finding], well: str = "") -> Iterator[Diagnosis]:
    """Yield a diagnosis for each finding of another check; without any, `well` is what is said, if it is not empty."""
    none = True
    for finding in findings:
        none = False
        grave = finding.severity is Severity.ERROR
        result = DiagnosisResult.FAULT if grave else DiagnosisResult.ADVICE
        yield Diagnosis(
            area=area, place=place, result=result, message=finding.message, hint=finding.hint, code=finding.code
        )
    if none and well:
        yield Diagnosis(area=area, place=place, result=DiagnosisResult.WELL, message=well)


def judge_folder(folder: FolderFacts) -> Iterator[Diagnosis]:
    """Yield what is wrong with the state folder or the spool: its rights, its owner's files, its room."""
    found = list(_folder_faults(folder))
    yield from found
    if not found:
        room = f", {human_bytes(folder.free)} free" if folder.free is not None else ""
        state = "can be used" if folder.exists else "does not exist yet, and can be made"
        yield _of_folder(folder, DiagnosisResult.WELL, f'"{folder.path}" {state}{room}')


def _folder_faults(folder: FolderFacts) -> Iterator[Diagnosis]:
    if not folder.usable:
        what = "cannot be written" if folder.exists else "does not exist and cannot be made"
        owner = f"{folder.owner}'s" if folder.owner else "the unit's user's"
        yield _of_folder(
            folder,
            DiagnosisResult.FAULT,
            f'"{folder.path}" {what} by the user "{folder.user}"',
            f"Run this as {owner} (under systemd, `backupd-as node doctor`), or change its owner.",
        )
    if folder.strangers:
        number = counted(folder.strangers, "file")
        yield _of_folder(
            folder,
            DiagnosisResult.FAULT,
            f'in "{folder.path}": {number} that its owner "{folder.owner}" does not own, and cannot use',
            f"`chown -R {folder.owner}: {folder.path}`; by hand, run backupd as that user (`backupd-as node`).",
        )
    if folder.free is not None and folder.free < folder.wanted:
        yield _of_folder(
            folder,
            DiagnosisResult.ADVICE,
            f'"{folder.path}" has {human_bytes(folder.free)} free, and may grow to {human_bytes(folder.wanted)}',
            "Make room there, or set a smaller spool_size: a slow store stops the backup when the disk is full.",
        )


def _of_folder(folder: FolderFacts, result: DiagnosisResult, message: str, hint: str = "") -> Diagnosis:
    return Diagnosis(area=DiagnosisArea.STATE, place=folder.key, result=result, message=message, hint=hint)


def judge_credentials(facts: CredentialFacts) -> Iterator[Diagnosis]:
    """Yield what is wrong with the credentials of one unit: what it lacks, what others can read, what it must not have.

    An empty folder means that the unit does nothing on this machine.
    """
    if not facts.files:
        message = f"{facts.folder} holds nothing: this unit does nothing on this machine"
        yield _of_unit(facts, DiagnosisResult.UNSEEN, message)
        return
    found = list(_credential_faults(facts))
    yield from found
    if not found:
        yield _of_unit(
            facts, DiagnosisResult.WELL, f"{facts.folder} holds what the unit needs, and root alone reads it"
        )


def _credential_faults(facts: CredentialFacts) -> Iterator[Diagnosis]:
    for name, key in facts.needed.items():
        if name not in facts.files:
            yield _of_unit(
                facts,
                DiagnosisResult.FAULT,
                f'"{name}" is missing, which {key} names',
                f"As root: `install -m 600 FILE {facts.folder}/{name}`.",
            )
    for name, file in sorted(facts.files.items()):
        if file.user != 0 or file.mode & _PRIVATE:
            yield _of_unit(
                facts,
                DiagnosisResult.FAULT,
                f'"{name}" is not for root alone',
                f"`chown root: {facts.folder}/{name}` and `chmod 600 {facts.folder}/{name}`.",
            )
        if name in facts.needed or name in facts.optional:
            continue
        if name in facts.forbidden:
            yield _of_unit(
                facts,
                DiagnosisResult.FAULT,
                f'"{name}" belongs to another unit: who breaks into this one could {facts.forbidden[name]}',
                f"Move it out of {facts.folder}, and make a new one if others have used this machine.",
            )
        else:
            yield _of_unit(
                facts,
                DiagnosisResult.ADVICE,
                f'"{name}" is used by nothing in the configuration',
                "Remove it, or name it in the configuration as credential:NAME.",
            )


def _of_unit(facts: CredentialFacts, result: DiagnosisResult, message: str, hint: str = "") -> Diagnosis:
    return Diagnosis(area=DiagnosisArea.CREDENTIALS, place=facts.unit, result=result, message=message, hint=hint)


def judge_clock(place: str, offset: timedelta, tolerance: timedelta) -> Diagnosis:
    """Judge how far another clock is ahead of this machine's; beyond the tolerance nothing is removed."""
    difference = human_duration(abs(offset))
    if abs(offset) <= _DRIFT:
        message = f"agrees with this machine's to {difference}"
        return Diagnosis(area=DiagnosisArea.CLOCKS, place=place, result=DiagnosisResult.WELL, message=message)
    grave = abs(offset) > tolerance
    return Diagnosis(
        area=DiagnosisArea.CLOCKS,
        place=place,
        result=DiagnosisResult.FAULT if grave else DiagnosisResult.ADVICE,
        message=f"its clock is {difference} {'ahead of' if offset > timedelta() else 'behind'} this machine's",
        hint="Set the one that is wrong, and have both synchronised (`timedatectl`): dates decide what is removed.",
    )


def judge_synchronised(synchronised: bool | None) -> Diagnosis:
    """Judge whether the kernel says that something keeps this machine's clock right; None where it does not say."""
    place, area = "this machine", DiagnosisArea.CLOCKS
    if synchronised is None:
        message = "the system does not say whether its clock is synchronised"
        return Diagnosis(area=area, place=place, result=DiagnosisResult.UNSEEN, message=message)
    if synchronised:
        return Diagnosis(area=area, place=place, result=DiagnosisResult.WELL, message="its clock is synchronised")
    return Diagnosis(
        area=area,
        place=place,
        result=DiagnosisResult.ADVICE,
        message="nothing synchronises its clock",
        hint="Install chrony or enable systemd-timesyncd: deadlines and removals depend on the date.",
    )


def judge_server(place: str, server: ServerFacts, now: datetime) -> Iterator[Diagnosis]:
    """Yield what is wrong with a database's server and our role there, beyond what prevents a backup now."""
    if not server.encrypted and not server.local:
        yield _of_database(
            place,
            DiagnosisResult.ADVICE,
            "rows come to this machine unencrypted",
            "Write sslmode=verify-full (and sslrootcert) into its dsn or service, or use a socket on this machine.",
        )
    if server.valid_until is not None and server.valid_until - now < _SOON:
        over = server.valid_until <= now
        yield _of_database(
            place,
            DiagnosisResult.FAULT if over else DiagnosisResult.ADVICE,
            f"the role's password {'expired' if over else 'expires'} on {server.valid_until:%Y-%m-%d}",
            "ALTER ROLE … VALID UNTIL 'infinity'; as a superuser, or set a new password in time.",
        )
    if server.snapshots_age_out:
        yield _of_database(
            place,
            DiagnosisResult.ADVICE,
            "old_snapshot_threshold lets the server break a backup that reads for longer",
            "Set it to -1 there, which needs a restart.",
        )


def _of_database(place: str, result: DiagnosisResult, message: str, hint: str) -> Diagnosis:
    return Diagnosis(area=DiagnosisArea.DATABASES, place=place, result=result, message=message, hint=hint)


def judge_store(region: str, store: str, look: StoreLook, role: str = "") -> Iterator[Diagnosis]:
    """Yield what is wrong with a region's store; `role` says whose account looked, where there are two."""
    place = f"{region} on {store}" + (f" ({role})" if role else "")
    found = [
        Diagnosis(area=DiagnosisArea.STORES, place=place, result=result, message=message, hint=hint)
        for result, message, hint in _store_faults(region, store, look)
    ]
    yield from found
    if not found:
        message = "answers, and holds a repository that is believed"
        yield Diagnosis(area=DiagnosisArea.STORES, place=place, result=DiagnosisResult.WELL, message=message)


def _store_faults(region: str, store: str, look: StoreLook) -> Iterator[tuple[DiagnosisResult, str, str]]:
    if look.error is not None:
        yield DiagnosisResult.FAULT, *look.error
        return
    if not look.exists:
        yield DiagnosisResult.ADVICE, "there is no repository yet", f"`backupd init {region}` makes it."
        return
    accept = f"`backupd store accept {store} --reason REFERENCE`"
    for key in look.unnamed_signers:
        yield (
            DiagnosisResult.FAULT,
            f"its repository does not name the signer {key} of trust.signers",
            f"With the store alone, `recover` leaves out what that key signed. {accept} names it.",
        )
    for key in look.unnamed_keepers:
        yield (
            DiagnosisResult.ADVICE,
            f"its repository does not name the keeper {key} of trust.keepers",
            f"With the store alone, `recover` needs that key as --keeper. {accept} names it.",
        )
    for change in look.changes:
        yield (
            DiagnosisResult.FAULT if change.worse else DiagnosisResult.ADVICE,
            f"{change.what} was {change.before} when that was last accepted, and is {change.now}",
            f"If that is wanted: {accept}. Else ask who runs the store what changed.",
        )
    yield from _store_advice(look)


def _store_advice(look: StoreLook) -> Iterator[tuple[DiagnosisResult, str, str]]:
    if look.append_only is False and not look.snapshots:
        yield (
            DiagnosisResult.ADVICE,
            "a writer may remove what is there, and the store keeps no snapshots of its own",
            "Make it append-only, or have it take read-only snapshots: `backupd manual stores`.",
        )
    if not look.separate_keeper:
        yield (
            DiagnosisResult.ADVICE,
            "the keeper logs in as the writer does",
            "Give it keeper_user and keeper_key of its own, so that the writer's account need not remove.",
        )
    if look.space is not None and look.space.free < _ROOM * look.space.total:
        yield (
            DiagnosisResult.ADVICE,
            f"{human_bytes(look.space.free)} of {human_bytes(look.space.total)} are free",
            "Get more room, or keep less: `backupd manual keeper`.",
        )


def judge_delivery(name: str, failure: str | None) -> Diagnosis:
    """Judge a target of notifications by its answer to a test message; None: no message was sent."""
    area = DiagnosisArea.NOTIFICATIONS
    if failure is None:
        message = "no message was sent; `backupd doctor --notify` sends one"
        return Diagnosis(area=area, place=name, result=DiagnosisResult.UNSEEN, message=message)
    if not failure:
        message = "took the test message; see whether it arrived"
        return Diagnosis(area=area, place=name, result=DiagnosisResult.WELL, message=message)
    return Diagnosis(
        area=area,
        place=name,
        result=DiagnosisResult.FAULT,
        message=f"the test message {failure}",
        hint="Check that line of the file, and whether this machine reaches the service.",
    )
