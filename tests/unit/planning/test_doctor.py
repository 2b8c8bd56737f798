"""Every verdict of the doctor can be well and can be a fault, and each fault comes with what to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backupd.model.diagnosis import (
    CredentialFacts,
    CredentialFile,
    DiagnosisArea,
    DiagnosisResult,
    FolderFacts,
    ServerFacts,
    StoreLook,
)
from backupd.model.findings import Finding, Severity
from backupd.model.status import Change, SpaceFacts
from backupd.planning import doctor

FAULT, ADVICE, UNSEEN, WELL = DiagnosisResult
NOW = datetime(2030, 6, 1, tzinfo=UTC)
FOLDER = FolderFacts(key="node.state_dir", path="/s", user="backupd", owner="backupd", free=100, wanted=10)
SERVER = ServerFacts(offset=timedelta(), version=170000)
STORE = StoreLook(append_only=True, separate_keeper=True, space=SpaceFacts(50, 100))
PRIVATE = CredentialFile(0, 0o600)
UNIT = CredentialFacts(
    unit="node",
    folder="/c",
    files={"signing.key": PRIVATE, "notify.urls": PRIVATE},
    needed={"signing.key": "node.signing_key_file"},
    optional=frozenset({"notify.urls"}),
    forbidden={"keeper.key": "remove backups"},
)


def results(diagnoses):
    """The results, worst first; each that is a fault or advice says what to do."""
    found = list(diagnoses)
    assert all(one.hint for one in found if one.result in (FAULT, ADVICE))
    return [one.result for one in found]


def test_a_sound_folder_is_well():
    """So is one that does not exist yet and can be made."""
    assert results(doctor.judge_folder(FOLDER)) == [WELL]
    assert results(doctor.judge_folder(replace(FOLDER, exists=False, owner="", free=None))) == [WELL]


@pytest.mark.parametrize(
    ("change", "result"),
    [
        ({"usable": False}, FAULT),
        ({"usable": False, "exists": False}, FAULT),
        ({"strangers": 1}, FAULT),
        ({"free": 9}, ADVICE),
    ],
)
def test_a_folder_that_cannot_be_used_is_not_well(change, result):
    """Rights, files of somebody else, and room each count."""
    assert results(doctor.judge_folder(replace(FOLDER, **change))) == [result]


def test_the_credentials_of_a_unit_are_well_when_it_has_what_it_needs():
    """What it may have, it need not have."""
    assert results(doctor.judge_credentials(UNIT)) == [WELL]
    assert results(doctor.judge_credentials(replace(UNIT, files={"signing.key": PRIVATE}))) == [WELL]
    assert results(doctor.judge_credentials(replace(UNIT, files={}))) == [UNSEEN]


@pytest.mark.parametrize(
    ("files", "result"),
    [
        ({"notify.urls": PRIVATE}, FAULT),
        ({"signing.key": CredentialFile(0, 0o640)}, FAULT),
        ({"signing.key": CredentialFile(1000, 0o600)}, FAULT),
        ({"signing.key": PRIVATE, "keeper.key": PRIVATE}, FAULT),
        ({"signing.key": PRIVATE, "old.key": PRIVATE}, ADVICE),
    ],
)
def test_the_credentials_of_a_unit_are_faulted(files, result):
    """One that is missing, open, somebody else's, another unit's, or forgotten."""
    assert results(doctor.judge_credentials(replace(UNIT, files=files))) == [result]


@pytest.mark.parametrize(
    ("seconds", "result"), [(0, WELL), (-20, WELL), (100, ADVICE), (-100, ADVICE), (301, FAULT), (-301, FAULT)]
)
def test_clocks_are_compared_in_both_directions(seconds, result):
    """Beyond the tolerance nothing is removed, so it is a fault."""
    found = doctor.judge_clock("zurich", timedelta(seconds=seconds), timedelta(minutes=5))
    assert results([found]) == [result]
    assert ("ahead" in found.message) == (seconds > 30)
    assert ("behind" in found.message) == (seconds < -30)


def test_a_clock_that_nothing_sets_is_not_well():
    """Nor is one of which the system says nothing."""
    assert [doctor.judge_synchronised(one).result for one in (True, False, None)] == [WELL, ADVICE, UNSEEN]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"encrypted": False, "local": True}, []),
        ({"encrypted": False}, [ADVICE]),
        ({"valid_until": NOW + timedelta(days=31)}, []),
        ({"valid_until": NOW + timedelta(days=29)}, [ADVICE]),
        ({"valid_until": NOW}, [FAULT]),
        ({"snapshots_age_out": True}, [ADVICE]),
    ],
)
def test_servers_are_judged_beyond_what_a_backup_needs_today(change, expected):
    """Encryption, the password's end, and settings that break a long read."""
    assert results(doctor.judge_server("be/app", replace(SERVER, **change), NOW)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [WELL]),
        ({"append_only": False, "snapshots": 7}, [WELL]),
        ({"error": ("it is away", "Wait.")}, [FAULT]),
        ({"exists": False}, [ADVICE]),
        ({"unnamed_signers": ("ab",)}, [FAULT]),
        ({"unnamed_keepers": ("ab",)}, [ADVICE]),
        ({"changes": (Change("hash", "md5", "no", worse=True),)}, [FAULT]),
        ({"changes": (Change("append_only", "no", "yes"),)}, [ADVICE]),
        ({"append_only": False}, [ADVICE]),
        ({"separate_keeper": False}, [ADVICE]),
        ({"space": SpaceFacts(9, 100)}, [ADVICE]),
    ],
)
def test_stores_are_judged(change, expected):
    """Each of a store's restrictions and of the names in its repository counts."""
    assert results(doctor.judge_store("be", "zurich", replace(STORE, **change))) == expected


def test_changes_and_missing_names_are_accepted_by_a_command():
    """The fix beside the fault is the command itself."""
    look = replace(STORE, unnamed_signers=("ab",), changes=(Change("hash", "md5", "no", worse=True),))
    hints = [one.hint for one in doctor.judge_store("be", "zurich", look)]
    assert [hint.count("`backupd store accept zurich --reason REFERENCE`") for hint in hints] == [1, 1]


@pytest.mark.parametrize(("failure", "result"), [(None, UNSEEN), ("", WELL), ("was refused", FAULT)])
def test_a_target_that_nobody_tried_is_not_well(failure, result):
    """Only a message that was taken counts."""
    assert results([doctor.judge_delivery("notify.urls[0]:1", failure)]) == [result]


def test_findings_of_other_checks_keep_their_weight():
    """An error is a fault, a warning is advice, and nothing at all is well only where somebody looked."""
    error, warning = (Finding(one, "code", "wrong", "Mend it.") for one in (Severity.ERROR, Severity.WARNING))
    assert results(doctor.judge_findings(DiagnosisArea.DATABASES, "be/app", [error, warning], "ready")) == [
        FAULT,
        ADVICE,
    ]
    assert results(doctor.judge_findings(DiagnosisArea.DATABASES, "be/app", [], "ready")) == [WELL]
    assert results(doctor.judge_findings(DiagnosisArea.DATABASES, "be/app", [])) == []
