"""Drills of stores, ledgers and keys that are not as they should be; and the control that a drill can fail at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from fix_drills import Drills, check, codes, segments_of, verdicts
from fix_keeper import KeeperRegion
from fix_postgres import Database, unique
from fix_regions import CLASSES, Region, make_region

from backupd.errors import StoreGoneError
from backupd.model.ledger import PurgeBegan, Shredded
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.drill import DrillRequest
from backupd.operations.drill.checks import integrity
from backupd.postgres.scratch import cluster
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.keyring import parse_keyring, without_lines


@pytest.fixture
def database(pg17: Server, make_database: Callable[..., Database]) -> Database:
    made = make_database(pg17)
    made.sql(
        "CREATE TABLE public.note (id int PRIMARY KEY, tenant text NOT NULL, body text)",
        "INSERT INTO public.note SELECT g, 't' || g % 3, repeat(md5(g::text), 20) FROM generate_series(1, 3000) g",
    )
    return made


@pytest.fixture
def region(region: Region, database: Database) -> Region:
    """Three tenants, backed up twice."""
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)
    region.backup(database)
    database.sql("UPDATE public.note SET body = body || '!' WHERE id % 10 = 0")
    region.backup(database)
    return region


def files(region: Region, folder: str, ending: str = "") -> list[Path]:
    return sorted(path for path in (region.folder / "store" / "be" / folder).rglob(f"*{ending}") if path.is_file())


def turned(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("folder", "ending", "name"),
    [("packs", "", "authentic"), ("keyrings", "", "authentic")],
)
def test_damaged_objects_are_red(region: Region, drills: Drills, folder: str, ending: str, name: str) -> None:
    """One bit in each kind of object that a restore needs fails the drill."""
    for path in files(region, folder, ending):
        turned(path)
    report = drills.run(DrillRequest(snapshot="latest"))
    assert report.verdict == "fail"
    assert check(report, name).verdict == "fail"


def test_a_lost_object_is_red(region: Region, drills: Drills) -> None:
    """A pack that no ledger explains."""
    for path in files(region, "packs"):
        path.unlink()
    report = drills.run(DrillRequest(snapshot="latest"))
    assert (report.verdict, check(report, "authentic").verdict) == ("fail", "fail")


def test_a_record_that_is_altered_or_missing_is_red(region: Region, drills: Drills) -> None:
    """Also when it is not the one that is drilled: the newest says which one it was written after."""
    older, newest = files(region, "snapshots")
    turned(older)
    report = drills.run(DrillRequest(snapshot=newest.name))
    assert (report.verdict, codes(report, "records")) == ("fail", ["record-not-believed"])
    assert check(report, "equality").verdict == "pass"
    older.unlink()
    report = drills.run(DrillRequest(snapshot=newest.name))
    assert (report.verdict, codes(report, "records")) == ("fail", ["record-missing"])


def test_damage_between_restore_and_checks_is_found(region: Region, drills: Drills) -> None:
    """What the restored database is held against is read from the store anew."""

    def between(_: object) -> None:
        for path in files(region, "packs"):
            turned(path)

    report = drills.run(DrillRequest(snapshot="latest"), between=between)
    assert (report.verdict, codes(report, "authentic")) == ("fail", ["damage"])


def test_a_store_that_goes_away_in_a_check_is_the_drills_error(
    region: Region, drills: Drills, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report has no verdict; whoever drilled learns why, by its words and exit status, and may try again."""

    def gone(*_: object) -> None:
        raise StoreGoneError("on purpose")

    monkeypatch.setattr(integrity, "check_authentic", gone)
    report = drills.run(DrillRequest(snapshot="latest"))
    assert (report.verdict, codes(report, "authentic")) == ("error", ["storegone"])
    assert isinstance(drills.outcomes[-1].error, StoreGoneError)


def test_the_identity_kept_for_a_disaster_must_open_everything(region: Region, drills: Drills) -> None:
    """One that is no recipient is red; the right one is green."""
    wrong = drills.run(escrow=suite.generate().secret)
    assert (wrong.verdict, codes(wrong, "escrow")) == ("fail", ["escrow-refused"])
    assert drills.run(escrow=region.identity.secret).verdict == "pass"


def test_a_drill_whose_own_identity_is_wrong_has_no_verdict(region: Region, drills: Drills) -> None:
    """It found nothing out about the backup."""
    report = drills.run(identity=suite.generate().secret)
    assert report.verdict == "error"
    assert drills.outcomes[-1].error is not None
    assert drills.outcomes[-1].error.exit_code == 8


def test_a_purged_tenant_is_absent_and_cannot_be_opened(
    region: Region, keeper_region: KeeperRegion, drills: Drills
) -> None:
    """After a purge the drill tries, and is refused; a key that came back is red."""
    repository = keeper_region.region.repository
    record = repository.record(repository.snapshots()[-1])
    ours = segments_of(region, record, "t1")
    incarnation = {"tenant": keeper_region.tenant("t1"), "incarnation": 1, "scope": ""}
    segments = [(record.generation, segment) for segment in ours]
    keeper_region.book.append(lambda _: [PurgeBegan(**incarnation, segments=segments, stores=["disk"])])
    drills.repository = repository
    report = drills.run(DrillRequest(snapshot="latest"))
    assert (report.verdict, codes(report, "purged")) == ("pass", ["purge-under-way"])
    keeper_region.book.append(lambda _: [Shredded(**incarnation, store="disk", keyrings=1)])
    report = drills.run(DrillRequest(snapshot="latest"))
    assert (report.verdict, codes(report, "purged")) == ("fail", ["shredded-key-opens"])
    for path in files(region, "keyrings"):
        path.chmod(0o600)
        data = path.read_bytes()
        keyring = parse_keyring(data, repository.signers, path.name)
        path.write_bytes(without_lines(data, keyring, set(ours)))
    report = drills.run(DrillRequest(snapshot="latest"))
    assert report.verdict == "pass"
    assert report.deletion is not None
    assert (report.deletion.purged, report.deletion.absent) == (len(ours), len(ours))
    assert (report.deletion.attempted, report.deletion.refused) == (len(ours), len(ours))


def test_the_canary_is_red_when_a_restore_does_not_obey(
    region: Region, drills: Drills, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that ignores what the ledger purged is caught by its positive control."""
    from backupd.planning.ledger_facts import Explained

    monkeypatch.setattr(Explained, "purged_in", lambda *_: frozenset())
    report = drills.run()
    assert report.verdict == "fail"
    assert codes(report, "canary") == ["canary-came-back"]


def test_the_canary_is_red_when_shredding_shreds_nothing(
    region: Region, drills: Drills, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that opens without its line would make every refusal worthless."""
    from backupd.operations.drill.checks import canary

    monkeypatch.setattr(canary, "without_lines", lambda data, *_: data)
    assert codes(drills.run(), "canary") == ["canary-key-opens-when-shredded"]


def test_a_drill_that_damages_what_it_fetches_notices(region: Region, drills: Drills) -> None:
    """Whatever object and bit the seed picks; nothing on the store changes."""
    before = {path: path.read_bytes() for path in files(region, "segments")}
    for seed in ("0", "1", "2"):
        report = drills.run(DrillRequest(damage=True, seed=seed))
        assert (report.type, report.verdict) == ("damage", "pass")
        assert {name for name, verdict in verdicts(report).items() if verdict != "skip"} == {"damage", "disposal"}
        assert codes(report, "equality") == ["not-asked"]
    assert {path: path.read_bytes() for path in files(region, "segments")} == before


def test_checks_that_notice_no_damage_are_red(region: Region, drills: Drills, monkeypatch: pytest.MonkeyPatch) -> None:
    """The routine is sabotaged: the damage does not arrive, so both readers stay green."""
    monkeypatch.setattr(integrity.DamagingStore, "get", lambda self, *arguments: self.inner.get(*arguments))
    report = drills.run(DrillRequest(damage=True))
    assert report.verdict == "fail"
    assert codes(report, "damage") == [
        "damage-not-noticed-by-check", "damage-not-noticed-by-restore", "damage-not-done",
    ]  # fmt: skip


def test_a_drill_reads_the_store_and_never_the_spool(region: Region, drills: Drills) -> None:
    """It writes nothing there either."""
    store = HookedStore(region.store)
    calls: list[str] = []
    store.before = lambda method, _: calls.append(method)
    drills.repository = Repository(store, [region.node.signer.public])
    spool = region.node.spool
    spool.rename(spool.with_name("away"))
    assert drills.run().verdict == "pass"
    assert set(calls) <= {"get", "stat", "list"}
    assert not spool.exists()


@pytest.mark.parametrize("kind", [TenancyKind.SCHEMA, TenancyKind.DATABASE])
def test_other_tenancies_are_drilled_alike(
    pg16: Server,
    make_database: Callable[..., Database],
    tmp_path: Path,
    kind: TenancyKind,
    drills_of: Callable[..., Drills],
) -> None:
    """By schema, with a tenant that has no rows, and by database, where the canary is all there is."""
    tag = unique("d")
    database = make_database(pg16, name=f"{tag}_one")
    for name in ("c_1", "c_2", "c_3"):
        database.sql(f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.doc (id serial PRIMARY KEY, t text)")
    database.sql(
        "INSERT INTO c_1.doc (t) SELECT 'x' FROM generate_series(1, 9)", "INSERT INTO c_2.doc (t) VALUES ('y')"
    )
    region = make_region(tmp_path / "other")
    region.tenancy = Tenancy(
        kind=kind,
        schema_pattern="c_(?P<tenant>.+)" if kind is TenancyKind.SCHEMA else None,
        database_pattern=f"{tag}_(?P<tenant>.+)" if kind is TenancyKind.DATABASE else None,
        classes=CLASSES,
    )
    region.backup(database)
    drills = drills_of(region)
    report = drills.run()
    assert report.verdict == "pass"
    assert check(report, "canary").verdict == "pass"
    report = drills.run(None, "INSERT INTO c_3.doc (t) VALUES ('z')", "SELECT setval('c_2.doc_id_seq', 1, false)")
    assert codes(report, "equality") == ["rows-added"]
    assert sorted(codes(report, "sequences")) == ["sequence-higher", "sequence-lower"]


def test_what_cannot_be_disposed_of_is_red(region: Region, drills: Drills, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drill that leaves rows behind must say so; the next one removes them, and tells."""
    monkeypatch.setattr(cluster, "dispose", lambda folder: bool(folder.lock.close()))
    report = drills.run()
    monkeypatch.undo()
    assert report.verdict == "fail"
    assert codes(report, "disposal") == ["left-behind"]
    assert report.disposal.remaining == 1
    after = drills.run()
    assert (after.verdict, after.disposal.remaining) == ("pass", 0)
