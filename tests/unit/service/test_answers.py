"""What jobs print is what the daemon reads: the same keys, in the order that programs know."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from doubles.samples.region_facts import region, store
from doubles.samples.reports import sample

from backupd.cli.output import as_object
from backupd.errors import BackupdError, StoreGoneError
from backupd.model.answers import (
    BackupAnswer,
    BackupReport,
    DamageFinding,
    DatabaseBackup,
    DrillAnswer,
    ErrorAnswer,
    ExpireAnswer,
    FailedAnswer,
    IngestAnswer,
    JobAnswer,
    PlannedPurges,
    PurgeAnswer,
    RefusedPurge,
    RegionPurge,
    StatusAnswer,
    StoreContents,
    StoreExpiry,
    StoreIngest,
    StorePurge,
    StoreVerification,
    SyncAnswer,
    UnreadAnswer,
    VerifyAnswer,
    decode_answer,
    of_value,
)
from backupd.model.ids import GenerationId, RegionName, SnapshotName, TenantId
from backupd.model.ledger import Expired
from backupd.model.status import StoreFault
from backupd.operations.keeper.purge import PurgePlan
from backupd.operations.keeper.types import Purged
from backupd.operations.service.jobs import ANSWERS, JobKind
from backupd.operations.verify import Verification
from backupd.planning.incarnations import IncarnationKey
from backupd.planning.verify import Mismatch

NAME = SnapshotName("20300101T000000Z-" + "ab" * 32)
TENANT = TenantId("5eed" * 8)
INCARNATION = IncarnationKey(TENANT, 1, "")
GONE = as_object(StoreGoneError("the store is away", hint="Wait."))
SEEN = Verification(
    region=RegionName("be"), snapshots=3, generations=1, keyrings=1, packs=6, sections=9, size=90, read=6, read_size=70,
    opened=0, orphans=(), orphans_size=0, leftovers=(), foreign=(), entries=5, purged=0, unpurged=0, aged=0,
    proven=(NAME,), findings=(Mismatch("snapshots/x", "is missing"),),
)  # fmt: skip
STEP = Purged("a", INCARNATION, keyrings=1, objects=5, bytes=9, looked_at=datetime(2030, 1, 1, tzinfo=UTC))
REPORT = BackupReport(
    snapshot=NAME, label="app", exported="2030-01-01T00:00:00.000000Z", generation=GenerationId("g"), tables=1,
    segments=2, rows=300, left_out=0, read=18192, new=5, sent=7, objects=2, held_seconds=1.0, seconds=2.0,
)  # fmt: skip
SAMPLES: dict[JobKind, JobAnswer] = {
    JobKind.OBSERVE: StatusAnswer(
        regions=(region(stores=(store(), store("cellar", error=StoreFault("StoreGone", "x", "y", True, 6)))),),
        alarms=(),
    ),
    JobKind.BACKUP: BackupAnswer(
        backups=(
            DatabaseBackup(region="be", store="a", database="app", report=REPORT),
            DatabaseBackup(region="be", store="b", database="app", error=GONE),
        )
    ),
    JobKind.INGEST: IngestAnswer(
        stores=(
            StoreIngest(region="be", store="a", taken={"pack": 2}, bytes=9, dropped=0, waiting={}, refused={}),
            StoreIngest(region="be", store="b", error=GONE),
        )
    ),
    JobKind.SYNC: SyncAnswer(tenants=7, events=(), refused={TENANT: "no"}, lingering=(TENANT,)),
    JobKind.PURGE: PurgeAnswer(
        regions=(
            RegionPurge(
                region="be",
                plan=of_value(PurgePlan((INCARNATION,), (), ()), PlannedPurges),
                done=(of_value(STEP, StorePurge), of_value(STEP, StorePurge)),
                refused=(RefusedPurge(incarnation=INCARNATION, reason="a hold came in"),),
                errors={"b": GONE},
            ),
        )
    ),
    JobKind.EXPIRE: ExpireAnswer(
        stores=(
            StoreExpiry(region="be", store="a", plan={}, expired=Expired(store="a", snapshots=2, objects=5, bytes=9)),
            StoreExpiry(region="be", store="c", plan={}, expired=None),
            StoreExpiry(region="be", store="b", error=GONE),
        )
    ),
    JobKind.VERIFY: VerifyAnswer(
        stores=(
            StoreVerification(
                region="be", store="a", clean=False, verification=of_value(SEEN, StoreContents), noted=None
            ),
            StoreVerification(region="be", store="b", error=GONE),
        )
    ),
    JobKind.DRILL: DrillAnswer(verdict="pass", published=False, report=sample(), unpublished=GONE),
}
"""An answer of each kind, with all that can be in it."""


def printed(answer: JobAnswer) -> Any:
    return json.loads(msgspec.json.encode(answer))


def test_the_daemon_reads_what_each_job_prints() -> None:
    """For every kind of job, and for a command that failed as a whole."""
    assert SAMPLES.keys() == ANSWERS.keys() == set(JobKind)
    for kind, answer in SAMPLES.items():
        assert decode_answer(printed(answer), ANSWERS[kind]) == answer
        assert decode_answer(printed(FailedAnswer(error=GONE)), ANSWERS[kind]) == FailedAnswer(error=GONE)


@pytest.mark.parametrize(
    ("unread", "more"),
    [
        (UnreadAnswer(bytes=8192), {"unread": 2 * 8192}),
        (UnreadAnswer(reason="why"), {"read_whole": "app: why"}),
        (UnreadAnswer(reason="why", told=True), {}),
    ],
)
def test_a_backup_says_what_it_did_not_read_or_why_it_read_everything(
    unread: UnreadAnswer, more: dict[str, int | str]
) -> None:
    """Once for all stores, and once only where the reason stays."""
    report = msgspec.structs.replace(REPORT, unread=unread)
    one = DatabaseBackup(region="be", store="a", database="app", report=report)
    before = BackupAnswer(backups=(one, one)).figures()
    assert {name: before[name] for name in before if name not in SAMPLES[JobKind.BACKUP].figures()} == more


def test_what_the_daemon_makes_of_each_answer() -> None:
    """Sums over stores and regions, the drill's verdict, and errors with their places."""
    sizes = sample().sizes
    assert sizes is not None
    assert {kind: answer.figures() for kind, answer in SAMPLES.items()} == {
        JobKind.OBSERVE: {},
        JobKind.BACKUP: {"rows": 300, "read": 18192, "new": 5, "sent": 7, "objects": 2},
        JobKind.INGEST: {"bytes": 9},
        JobKind.SYNC: {"tenants": 7},
        JobKind.PURGE: {"objects": 10, "bytes": 18},
        JobKind.EXPIRE: {"snapshots": 2, "objects": 5, "bytes": 9},
        JobKind.VERIFY: {"snapshots": 3, "read": 70},
        JobKind.DRILL: {"rows": sizes.rows, "bytes": sizes.bytes, "verdict": "pass"},
    }
    assert BackupAnswer(backups=()).figures() == PurgeAnswer(regions=()).figures() == {}
    assert {kind: [where for where, _ in answer.errors()] for kind, answer in SAMPLES.items()} == {
        JobKind.OBSERVE: ["cellar"],
        JobKind.BACKUP: ["b/app"],
        JobKind.INGEST: ["b"],
        JobKind.SYNC: [],
        JobKind.PURGE: ["b"],
        JobKind.EXPIRE: ["b"],
        JobKind.VERIFY: ["b"],
        JobKind.DRILL: [""],
    }


READ = {
    JobKind.OBSERVE: ("regions.0.region", "regions.0.stores.0.store", "regions.0.stores.1.error.kind"),
    JobKind.BACKUP: ("backups", "backups.0.store", "backups.0.database", "backups.0.report.rows"),
    JobKind.INGEST: ("stores", "stores.0.store", "stores.1.error.retryable"),
    JobKind.SYNC: ("tenants",),
    JobKind.PURGE: ("regions", "regions.0.done.0.objects", "regions.0.errors.b.exit_code"),
    JobKind.EXPIRE: ("stores", "stores.0.expired.bytes", "stores.2.error.kind"),
    JobKind.VERIFY: ("stores", "stores.0.verification.read_size", "stores.1.error.message"),
    JobKind.DRILL: ("verdict", "report", "report.drill", "unpublished.kind"),
}


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, paths in READ.items() for path in paths])
def test_a_key_that_is_called_otherwise_is_no_answer(kind: JobKind, path: str) -> None:
    """What the daemon acts on must be there under its name: nothing is taken for absent that is only renamed."""
    answer = printed(SAMPLES[kind])
    *above, last = path.split(".")
    place = answer
    for name in above:
        place = place[int(name)] if isinstance(place, list) else place[name]
    place["renamed"] = place.pop(last)
    with pytest.raises(msgspec.ValidationError, match=f"`{last}`"):
        decode_answer(answer, ANSWERS[kind])


def test_keys_stand_in_the_order_that_programs_know() -> None:
    """An operation's own value is printed field by field as it always was; so is an error."""
    for own, answer in ((Verification, StoreContents), (Mismatch, DamageFinding), (Purged, StorePurge)):
        assert tuple(one.name for one in dataclasses.fields(own)) == answer.__struct_fields__
    assert tuple(one.name for one in dataclasses.fields(PurgePlan)) == PlannedPurges.__struct_fields__
    for value, answer in ((SEEN, StoreContents), (STEP, StorePurge)):
        assert msgspec.json.encode(value) == msgspec.json.encode(of_value(value, answer))
    assert list(printed(FailedAnswer(error=GONE))["error"]) == ["kind", "exit_code", "message", "hint", "retryable"]
    assert list(printed(SAMPLES[JobKind.BACKUP])["backups"][1]) == ["region", "store", "database", "error"]


def test_an_error_of_ours_and_one_of_nobody() -> None:
    """A fault of backupd itself has its frames; its message, which may quote a row, is left out."""
    assert as_object(BackupdError("x", hint="y")) == ErrorAnswer(
        kind="Backupd", exit_code=1, message="x", hint="y", retryable=False
    )
    internal = as_object(ValueError("a row"))
    assert (internal.kind, internal.frames) == ("internal", ())
    assert "a row" not in internal.message
