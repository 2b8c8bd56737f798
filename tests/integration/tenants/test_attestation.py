"""Nothing is attested that was not seen; what is attested can be verified by anybody, anywhere."""

from __future__ import annotations

import hashlib
import io
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from doubles.servers.postgres import Server
from doubles.stores.segments import publish_pack, seal_section
from fix_clock import ShiftedClock
from fix_keeper import DAY, KeeperRegion
from fix_postgres import Database

from backupd.errors import DamageError, RefusedError, StoreError, StoreGoneError
from backupd.model.ids import ObjectName, RunId
from backupd.model.ledger import PurgeBegan, Restored
from backupd.model.tenancy import SegmentName, Tenancy, TenancyKind
from backupd.model.text import stamp
from backupd.operations.attestation import Issued, Verdict, attest, countersign, verify_attestation
from backupd.operations.attestation.issue import list_keys
from backupd.operations.keeper.purge import Purging
from backupd.operations.ledger import Book
from backupd.planning import lifecycle
from backupd.planning.incarnations import State
from backupd.planning.lifecycle import ClockDates
from backupd.repository import layout
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer, signatures_of
from backupd.seal.keyring import SegmentKey
from backupd.seal.pack import PackContext
from backupd.seal.section_format import SectionContext
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
NAME = "Zonnebloem-Marktkraam"
"""The tenant that leaves; must stand nowhere."""
ROW = "kwartelei-in-aspic"


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Two tenants, one of whom has a name worth hiding."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        f"INSERT INTO note SELECT g, (ARRAY['{NAME}', 'b'])[1 + g % 2], '{ROW}' || g FROM generate_series(1, 90) g",
        "ANALYZE",
    )
    return database


@pytest.fixture
def purged(keeper_region: KeeperRegion, crowd: Database) -> KeeperRegion:
    """The tenant was backed up, asked to be erased, and was purged."""
    keeper_region.region.tenancy = BY_COLUMN
    keeper_region.region.backup(crowd)
    erase(keeper_region)
    keeper_region.purge(keeper_region.incarnation(NAME))
    return keeper_region


def erase(keeper_region: KeeperRegion, deadline: timedelta = 3 * DAY) -> None:
    now = keeper_region.clock.now()
    keeper_region.book.append(
        lambda states: lifecycle.erase(states, keeper_region.tenant(NAME), ClockDates(now, now + deadline, now))
    )


def issue(keeper_region: KeeperRegion, **locations: str) -> Issued:
    return attest(keeper_region.keeper, keeper_region.incarnation(NAME), {"disk": "zurich", **locations})


def chain_of(keeper_region: KeeperRegion) -> Chain:
    """The ledger as a copy of the store shows it."""
    trusted = keeper_region.book._place.trusted
    return read_chain(
        keeper_region.region.store, Chain(keeper_region.keeper.region, keeper_region.keeper.repository), trusted
    )[0]


def verified(keeper_region: KeeperRegion, issued: Issued, chain: Chain | None = None) -> Verdict:
    return verify_attestation(issued.document, {keeper_region.keeper.signer.public}, chain or chain_of(keeper_region))


def zfs(keeper_region: KeeperRegion, name: str = "") -> Path:
    """Where the store's own snapshot of this name holds the region."""
    return (
        keeper_region.region.folder
        / "store"
        / ".zfs"
        / "snapshot"
        / (name or f"daily_{datetime.now(UTC):%Y-%m-%d}")
        / "be"
    )


def test_what_was_seen_gone_is_attested_and_verified_offline(purged: KeeperRegion) -> None:
    """The document names the dates, keys and stores, lies on the store, is in the ledger, and verifies from copies."""
    shutil.copytree(purged.region.folder / "store" / "be", zfs(purged))
    issued = issue(purged)
    one, incarnation = issued.attestation, purged.book.states.incarnations[purged.incarnation(NAME)]
    assert (incarnation.state, incarnation.attestation) == (State.ATTESTED, issued.sha256)
    (store,) = one.stores
    assert (store.store, store.location, store.late) == ("disk", "zurich", False)
    assert store.snapshots == [zfs(purged).parent.name]
    assert store.shredded <= store.cleared <= store.absent <= store.observed <= one.issued <= one.due
    assert {(key.generation, key.segment) for key in one.keys} == incarnation.purge.segments
    (keyring,) = [purged.region.repository.keyring(name) for name in store.keyrings]
    assert {(*key.keyrings, *key.stores) for key in one.keys} == {(keyring.ids.run, "disk")}
    assert {key.segment for key in one.keys} == keyring.shredded
    name = layout.attestation_name(issued.sha256)
    assert purged.region.store.get(name) == issued.document
    assert layout.place_of(name).kind is layout.ObjectKind.ATTESTATION
    verdict = verified(purged, issued)
    assert [(found.role, found.trusted) for found in verdict.signatures] == [("performer", True)]
    assert verdict.not_checked == ("the stores as they are now",)
    alone = verify_attestation(issued.document, {purged.keeper.signer.public}, None)
    assert alone.not_checked[0].startswith("the ledger")


def test_a_keyring_that_holds_a_key_is_told(keeper_region: KeeperRegion, crowd: Database) -> None:
    """The last look before the signature reads the keyrings themselves, whatever the purge said of them."""
    keeper_region.region.tenancy = BY_COLUMN
    keeper_region.region.backup(crowd)
    with Purging(keeper_region.keeper) as purging:
        segments = purging.find(keeper_region.incarnation(NAME))
    listed = list_keys(keeper_region.keeper, segments)
    assert listed.kept == listed.keyrings["disk"] != []
    erase(keeper_region)
    keeper_region.purge(keeper_region.incarnation(NAME))
    assert list_keys(keeper_region.keeper, segments).kept == []


def test_nothing_is_attested_before_its_purge(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Unknown, or due and not begun: refused, and the question does not start the purge."""
    keeper_region.region.tenancy = BY_COLUMN
    keeper_region.region.backup(crowd)
    for prepare in (lambda: None, lambda: erase(keeper_region)):
        prepare()
        length = len(keeper_region.book.chain.links)
        with pytest.raises(RefusedError, match="has not begun"):
            issue(keeper_region)
        assert len(keeper_region.book.chain.links) == length


def test_a_store_snapshot_that_holds_a_key_stands_in_the_way(keeper_region: KeeperRegion, crowd: Database) -> None:
    """The snapshot is named until it is gone; then it is attested."""
    keeper_region.region.tenancy = BY_COLUMN
    keeper_region.region.backup(crowd)
    shutil.copytree(keeper_region.region.folder / "store" / "be", zfs(keeper_region))
    erase(keeper_region)
    keeper_region.purge(keeper_region.incarnation(NAME))
    with pytest.raises(RefusedError, match=f"'disk' still holds something in: {zfs(keeper_region).parent.name}"):
        issue(keeper_region)
    assert not list(keeper_region.region.store.list(layout.ATTESTATIONS))
    # Only the key: the packs aged out of it first.
    shutil.rmtree(zfs(keeper_region) / "packs")
    with pytest.raises(RefusedError, match="still holds something"):
        issue(keeper_region)
    shutil.rmtree(zfs(keeper_region).parent)
    assert verified(keeper_region, issue(keeper_region))


def test_a_snapshot_nobody_can_look_into_stands_in_the_way(purged: KeeperRegion) -> None:
    """A snapshot that does not show the repository proves nothing by its silence."""
    blank = zfs(purged, "daily_2199-01-01")
    blank.mkdir(parents=True)
    (blank / "something").touch()
    with pytest.raises(RefusedError, match="'disk': the store's snapshot 'daily_2199-01-01' does not show"):
        issue(purged)


def test_a_copy_that_came_back_is_removed_and_seen_again(purged: KeeperRegion, crowd: Database) -> None:
    """Sections put back after the purge are taken again, and what is attested is the look behind that."""
    before = purged.book.states.incarnations[purged.incarnation(NAME)].purge
    ((generation, segment), *_) = before.segments
    context = PackContext(purged.keeper.repository, generation)
    name = SegmentName("app", "uploaded", NAME)
    section = SectionContext(context.repository, generation, segment, 99)
    back = seal_section(section, SegmentKey(b"k" * 32, name), (RunId(generation), 0), [[b"old"]])
    publish_pack(purged.region.store, context, [back])
    one = issue(purged).attestation
    assert one.stores[0].cleared > stamp(before.absent["disk"][0])
    assert one.stores[0].absent >= one.stores[0].cleared


class Gone(DirectoryStore):
    """A store nobody can reach."""

    def list(self, prefix: ObjectName):  # noqa: ARG002  # the port's
        raise StoreGoneError("the line is down")


@pytest.mark.parametrize("gone", [True, False])
def test_a_store_configured_since_is_looked_at_or_named(purged: KeeperRegion, tmp_path: Path, gone: bool) -> None:
    """What the purge did not know of: a store out of reach is named; a copy of the first is purged, too, and told."""
    shutil.copytree(purged.region.folder / "store" / "be", tmp_path / "second" / "be")
    second: Store = (Gone if gone else DirectoryStore)(tmp_path / "second" / "be")
    trusted = [purged.region.node.signer.public]
    repository = Repository(second, trusted, purged.book._place.trusted)
    stores = {**purged.book._place.stores, "attic": second}
    purged.book._place = replace(purged.book._place, stores=stores)
    purged.keeper = replace(purged.keeper, stores={**purged.keeper.stores, "attic": repository})
    if gone:
        with pytest.raises(RefusedError, match="store 'attic': the line is down") as told:
            issue(purged, attic="ghent")
        assert "the ledger on store 'attic' could not be compared" in told.value.message
        assert "store 'attic' was not looked at" in told.value.message
        return
    issued = issue(purged, attic="ghent")
    assert [(one.store, one.location) for one in issued.attestation.stores] == [("attic", "ghent"), ("disk", "zurich")]
    assert second.get(layout.attestation_name(issued.sha256)) == issued.document
    assert verified(purged, issued)


def test_a_store_configured_no_more_stands_in_the_way(purged: KeeperRegion) -> None:
    """It took part in the purge, and nobody can look at it: named, though it was seen empty once."""
    purged.book.append(
        lambda _: [PurgeBegan(**purged.incarnation(NAME)._asdict(), segments=[], stores=["disk", "cellar"])]
    )
    with pytest.raises(RefusedError, match="store 'cellar' took part in the purge and is not configured any more"):
        issue(purged)


def test_a_run_that_began_before_the_purge_stands_in_the_way(purged: KeeperRegion) -> None:
    """Its mark says it may not know of the purge; when it is gone, or old, what it did was seen."""
    ((generation, _), *_) = purged.book.states.incarnations[purged.incarnation(NAME)].purge.segments
    mark = layout.run_mark(generation, layout.RunId("20300101T000000Z-00000000"))
    purged.region.store.put_new(mark, io.BytesIO(b""), 0, hashlib.sha256().hexdigest())
    with pytest.raises(RefusedError, match=r"run 20300101T000000Z-00000000 on store 'disk' began before"):
        issue(purged)
    purged.region.store.remove(mark)
    assert verified(purged, issue(purged))


def test_a_ledger_that_was_altered_is_not_signed_over(purged: KeeperRegion) -> None:
    """An early entry that is not the one known stops it, though the newest ones agree."""
    path = purged.region.folder / "store" / "be" / layout.entry_name(1)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"at"', b'"aT"'))
    with pytest.raises(DamageError, match="not the entry that is known"):
        issue(purged)


def test_one_byte_changed_is_found(purged: KeeperRegion) -> None:
    """Every byte of the document: body, signature, or the end of a line."""
    document = issue(purged).document
    trusted = {purged.keeper.signer.public}
    for place in [*range(0, len(document), 97), len(document) - 1, document.index(b"\n")]:
        broken = bytearray(document)
        broken[place] ^= 1
        with pytest.raises((DamageError, RefusedError)):
            verify_attestation(bytes(broken), trusted, None)
    with pytest.raises(DamageError, match="not signed by a trusted signer"):
        verify_attestation(document, {"ab" * 32}, None)


def test_a_ledger_without_its_events_is_found(purged: KeeperRegion) -> None:
    """Cut off before it was issued, before the purge ended, or another ledger: each is told."""
    issued = issue(purged)
    whole = chain_of(purged)
    seen = issued.attestation.ledger.seq
    with pytest.raises(DamageError, match=r"does not tell of .* being issued"):
        verified(purged, issued, replace(whole, links=whole.links[:seen]))
    with pytest.raises(DamageError, match=f"ends at entry {seen - 1}"):
        verified(purged, issued, replace(whole, links=whole.links[: seen - 1]))
    with pytest.raises(DamageError, match="another repository"):
        verified(purged, issued, replace(whole, repository="ab" * 16))
    # A keeper that signs what its ledger does not say.
    lying = msgspec.structs.replace(issued.attestation, keys=[])
    signed = purged.keeper.signer.sign(msgspec.json.encode(lying, order="sorted"), "attestation")
    with pytest.raises(DamageError, match=r"does not tell what .* says of the segments"):
        verify_attestation(signed, {purged.keeper.signer.public}, whole)
    # One that says the truth and was never issued.
    other = msgspec.structs.replace(issued.attestation, not_covered=[])
    signed = purged.keeper.signer.sign(msgspec.json.encode(other, order="sorted"), "attestation")
    with pytest.raises(DamageError, match=r"does not tell of .* being issued"):
        verify_attestation(signed, {purged.keeper.signer.public}, whole)


def test_more_found_afterwards_asks_for_another(purged: KeeperRegion) -> None:
    """An attestation that later finds outdate is not called good."""
    issued = issue(purged)
    purged.book.append(lambda _: [PurgeBegan(**purged.incarnation(NAME)._asdict(), segments=[], stores=["disk"])])
    with pytest.raises(RefusedError, match="more of the tenant was found"):
        verified(purged, issued)
    assert verified(purged, issue(purged))


def test_two_signatures_verify_in_any_order(purged: KeeperRegion) -> None:
    """Validators sign beside the keeper: the body and the ledger's hash stay, and the order does not matter."""
    issued, first, second = issue(purged), Signer(b"1" * 32), Signer(b"2" * 32)
    one = countersign(countersign(issued.document, first, "it"), second, "it")
    other = countersign(countersign(issued.document, second, "it"), first, "it")
    assert one == other == countersign(one, first, "it")
    assert one.split(b"\n")[0] == issued.document.split(b"\n")[0]
    assert [found.good for found in signatures_of(one, "attestation", "it")] == [True] * 3
    verdict = verify_attestation(one, {purged.keeper.signer.public, first.public}, chain_of(purged))
    assert verdict.sha256 == issued.sha256
    assert {found.key: (found.role, found.trusted) for found in verdict.signatures} == {
        purged.keeper.signer.public: ("performer", True),
        first.public: ("other", True),
        second.public: ("other", False),
    }
    with pytest.raises(DamageError):
        verify_attestation(one, {first.public}, None)  # a validator is no keeper


def test_a_wrong_document_is_not_countersigned(purged: KeeperRegion) -> None:
    """Nobody puts a name beside a body the keeper did not sign, nor beside another's broken signature."""
    issued, validator = issue(purged), Signer(b"1" * 32)
    with pytest.raises(DamageError, match="signature of 'it' is wrong"):
        countersign(issued.document.replace(b"zurich", b"bruges"), validator, "it")
    signed = countersign(issued.document, validator, "it")
    last = signed.rindex(b'"signature":"') + len(b'"signature":"')
    broken = signed[:last] + (b"B" if signed[last : last + 1] == b"A" else b"A") + signed[last + 1 :]
    with pytest.raises(RefusedError, match="a signature of 'it' is wrong"):
        countersign(broken, Signer(b"2" * 32), "it")
    with pytest.raises(DamageError, match="a signature of 'attestation' is wrong"):
        verify_attestation(broken, {purged.keeper.signer.public}, None)


def test_a_late_delivery_is_told(keeper_region: KeeperRegion, crowd: Database) -> None:
    """What was gone after its day is attested as late, and a document that hides it is found."""
    keeper_region.region.tenancy = BY_COLUMN
    keeper_region.region.backup(crowd)
    erase(keeper_region, timedelta(microseconds=1))
    keeper_region.purge(keeper_region.incarnation(NAME))
    issued = issue(keeper_region)
    assert (issued.attestation.late, issued.attestation.stores[0].late) == (True, True)
    assert verified(keeper_region, issued)
    hidden = msgspec.structs.replace(issued.attestation, late=False)
    signed = keeper_region.keeper.signer.sign(msgspec.json.encode(hidden, order="sorted"), "attestation")
    with pytest.raises(DamageError, match="wrong about being late"):
        verify_attestation(signed, {keeper_region.keeper.signer.public}, None)


def test_holds_and_restores_are_told(keeper_region: KeeperRegion, crowd: Database) -> None:
    """Holds since the clock ran and restores since the purge began stand in the document, without their reasons."""
    keeper_region.region.tenancy = BY_COLUMN
    snapshot = keeper_region.region.backup(crowd).snapshot
    now, tenant = keeper_region.clock.now(), keeper_region.tenant(NAME)
    dates = ClockDates(now, now + 180 * DAY, now)
    keeper_region.book.append(lambda states: lifecycle.unsubscribe(states, tenant, dates))
    keeper_region.book.append(lambda states: lifecycle.hold(states, tenant, "CASE-1", now + 30 * DAY))
    keeper_region.book.append(lambda states: lifecycle.release(states, tenant, "CASE-1", keeper_region.clock.now()))
    keeper_region.book.append(lambda _: [Restored(snapshot=snapshot, purpose="before")])
    keeper_region.purge(keeper_region.incarnation(NAME))
    keeper_region.book.append(lambda _: [Restored(snapshot=snapshot, purpose=f"for {NAME}", override="DPO-7")])
    issued = issue(keeper_region)
    (hold,), (restore,) = issued.attestation.holds, issued.attestation.restores
    assert (hold.hold, hold.released is None) == ("CASE-1", False)
    assert (restore.snapshot, restore.override) == (snapshot, "DPO-7")
    assert NAME.encode() not in issued.document
    assert verified(keeper_region, issued).later_restores == ()
    keeper_region.book.append(lambda _: [Restored(snapshot=snapshot, purpose="after")])
    (later,) = verified(keeper_region, issued).later_restores
    assert (later.snapshot, later.seq) == (snapshot, len(keeper_region.book.chain.links))


def test_a_crash_before_the_ledger_tells_leaves_nothing_attested(purged: KeeperRegion, monkeypatch) -> None:
    """The document may lie there; the incarnation is not attested, and the next attempt issues another."""

    def cut(_: object) -> None:
        if list(purged.region.store.list(layout.ATTESTATIONS)):
            raise StoreError("cut")

    with monkeypatch.context() as patched:
        patched.setattr(purged.book, "append", cut)
        with pytest.raises(StoreError, match="cut"):
            issue(purged)
    assert purged.book.states.incarnations[purged.incarnation(NAME)].state is State.CLEARED
    assert verified(purged, issue(purged))


def test_nothing_is_attested_under_a_clock_that_is_wrong(purged: KeeperRegion) -> None:
    """No document with a wrong date is on a store: it would be signed, whether the ledger refers to it or not."""
    keeper, at = purged.keeper, replace(purged.book._place, tolerance=timedelta(minutes=5))
    wrong = Book(replace(at, clock=ShiftedClock(timedelta(days=600))))
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        attest(replace(keeper, book=wrong), purged.incarnation(NAME), {"disk": "zurich"})
    assert not list(purged.region.store.list(layout.ATTESTATIONS))


def test_a_purge_that_goes_on_meanwhile_is_not_attested(purged: KeeperRegion, monkeypatch) -> None:
    """More that another run found while the document was on its way: the ledger is not told that it is good."""
    put = Repository.put_document

    def put_and_find(repository: Repository, name: ObjectName, data: bytes) -> None:
        put(repository, name, data)
        purged.book.append(lambda _: [PurgeBegan(**purged.incarnation(NAME)._asdict(), segments=[], stores=["disk"])])

    with monkeypatch.context() as patched:
        patched.setattr(Repository, "put_document", put_and_find)
        with pytest.raises(RefusedError, match="went on meanwhile"):
            issue(purged)
    assert purged.book.states.incarnations[purged.incarnation(NAME)].attestation is None


def test_a_node_keeps_no_copy_of_keys_that_are_on_the_store(keeper_region: KeeperRegion, crowd: Database) -> None:
    """A published keyring's sealed lines are nowhere else: a purge could not reach them there."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    report = region.backup(crowd)
    keyrings = region.repository.keyrings(region.repository.record(report.snapshot).generation)
    lines = [line for keyring in keyrings for line in region.store.get(keyring.where).splitlines()[3:]]
    sealed = [msgspec.json.decode(line)[1].encode() for line in lines]
    assert len(sealed) == sum(len(keyring.index) for keyring in keyrings) > 2
    elsewhere = [path for path in region.folder.rglob("*") if path.is_file() and "store" not in path.parts]
    assert any(path.suffix == ".sqlite" for path in elsewhere)
    held = [path.name for path in elsewhere if any(line in path.read_bytes() for line in sealed)]
    assert held == []
