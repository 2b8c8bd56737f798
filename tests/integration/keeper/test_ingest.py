"""Taking what a node handed in: all of it once, in order, whatever stops it; and nothing no honest node hands in."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from doubles.stores.fake_writer import Made, segment
from doubles.stores.faulty_store import FaultyStore
from fix_offline_keeper import DAY

from backupd.errors import BusyError, RefusedError, StoreGoneError
from backupd.model.documents import encode_body
from backupd.model.ledger import ExpiryBegan
from backupd.model.text import stamp
from backupd.operations.keeper.ingest import ingest, troubles
from backupd.operations.keeper.purge import Purging
from backupd.operations.tenants.changes import TenantDesk, erase
from backupd.planning.deadlines import DeletionBudget
from backupd.planning.incarnations import IncarnationKey
from backupd.repository import layout
from backupd.repository.marks import removal_marked
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.store.directory import DirectoryStore
from backupd.store.handoff import HandoffStore
from backupd.store.names import flat

OWN = "incoming/n1"


class Hands:
    """A node of the yard that may only hand in."""

    def __init__(self, yard):
        self.yard = yard
        (yard.root / "incoming").mkdir()
        self.own = DirectoryStore(yard.root / OWN)
        self.store = HandoffStore(DirectoryStore(yard.root), self.own)

    def backup(self, *tenants, stages=9, at=None):
        """A run that ends after so many stages; returns its snapshot."""
        content = {segment("structure", None): [b"ddl\n"]}
        content |= {
            segment("uploaded", tenant): [b"first\n", f"{os.urandom(8)} {tenant}\n".encode()] for tenant in tenants
        }
        made = Made()
        self.yard.writer.clock.time.now = at or datetime.now(UTC)
        steps = self.yard.writer.run("disk", self.store, content, made)
        for _, _ in zip(range(stages), steps, strict=False):
            pass
        steps.close()
        return made.snapshot

    def put(self, target, data):
        self.own.put_new(flat(target), io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())

    def files(self):
        """What lies in the node's folder, by the name it is to have."""
        return {name.removeprefix(f"{OWN}/").replace("+", "/") for name in self.yard.files() if name.startswith(OWN)}

    def age(self, days):
        for name in self.yard.files():
            if name.startswith(OWN):
                self.yard.age(name, days)


@pytest.fixture
def hands(yard):
    return Hands(yard)


def vault(yard):
    return {
        name: digest for name, digest in yard.files().items() if not name.startswith(("incoming/", "ledger/", "tmp/"))
    }


def sound(yard):
    """Every record there, with all it names on the store."""
    repository = yard.repository
    for generation, name in repository.records():
        record = repository.record(name, generation)
        listed = {segment for ring in repository.keyrings(generation) for segment, _ in ring.index}
        for pseudonym, sha256, _ in record.parts:
            assert pseudonym in listed
            assert sha256 in repository.contents(generation, pseudonym)
    return repository.snapshots()


def test_everything_handed_in_comes_to_its_place(yard, hands):
    """The record last, each object as it was; the node goes on from what was taken, and finds nothing to take back."""
    first = hands.backup("acme", "bolt")
    handed = hands.files()
    assert sound(yard) == []
    done = ingest(yard.keeper, "disk")
    assert (set(done.taken), done.waiting, done.refused) == ({"pack", "keyring", "part", "record"}, {}, {})
    assert troubles(done) is None
    assert hands.files() == set()
    assert handed <= vault(yard).keys()
    put = [layout.place_of(name).kind for name in yard.store.put if name in handed]
    order = [layout.ObjectKind.PACK, layout.ObjectKind.KEYRING, layout.ObjectKind.PART, layout.ObjectKind.RECORD]
    assert sorted(put, key=order.index) == put
    assert sound(yard) == [first]
    packs = [name for name in vault(yard) if name.endswith(".pack")]
    second = hands.backup("acme", "bolt")
    assert not any(name in hands.files() for name in packs)
    ingest(yard.keeper, "disk")
    assert set(sound(yard)) == {first, second}
    assert ingest(yard.keeper, "disk").taken == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_call_of_an_ingest_may_fail(yard, hands, after):
    """Cut at each call in turn: what stands there is whole, and the run after it completes."""
    snapshots, number = [], 0
    while True:
        number += 1
        snapshots.append(hands.backup("acme"))
        faulty = FaultyStore(yard.store, number, after=after)
        repository = Repository(faulty, yard.repository.signers, yard.repository.keepers)
        keeper = replace(yard.keeper, stores={"disk": repository}, threads=1)
        try:
            ingest(keeper, "disk")
        except StoreGoneError:
            assert set(sound(yard)) <= set(snapshots)
            before = vault(yard)
            done = ingest(yard.keeper, "disk")
            assert (done.waiting, done.refused) == ({}, {})
            assert before.items() <= vault(yard).items()
        assert sorted(sound(yard)) == sorted(snapshots)
        assert hands.files() == set()
        if len(faulty.calls) < number:
            break
    assert number > 15


def test_a_part_of_a_run_waits_for_the_rest(yard, hands):
    """Of a run under way what is complete in itself is taken; a record whose parts are not there is not."""
    snapshot = hands.backup("acme")
    (part,) = [name for name in hands.files() if name.endswith(".part")][:1]
    data = hands.own.get(flat(part))
    hands.own.remove(flat(part))
    done = ingest(yard.keeper, "disk")
    assert list(done.waiting.values()) == [f"part '{layout.place_of(part).sha256}'"]
    assert sound(yard) == []
    hands.put(part, data)
    ingest(yard.keeper, "disk")
    assert sound(yard) == [snapshot]


def test_what_waited_too_long_is_refused_and_goes(yard, hands):
    """Two days are longer than any run."""
    hands.backup("acme")
    for name in hands.files():
        if name.endswith(".part"):
            hands.own.remove(flat(name))
    hands.age(3)
    done = ingest(yard.keeper, "disk")
    assert [why.split(" for ")[0] for why in done.refused.values()] == ["waited in vain"]
    assert isinstance(troubles(done), RefusedError)
    assert hands.files() == set()


def forged(yard, record, **changes):
    """A record as a thief of the node's key signs one."""
    data = yard.writer.signer.sign(encode_body(msgspec.structs.replace(record, **changes)), "snapshot")
    at = (changes.get("exported") or record.exported)[:19].replace("-", "").replace(":", "") + "Z"
    return f"snapshots/{record.generation}/{at}-{hashlib.sha256(data).hexdigest()}", data


def test_nothing_is_taken_that_a_node_may_not_add(yard, hands):
    """Whatever a thief of the node's key hands in is told by name, stays out of the store, and goes after two days."""
    ingest(yard.keeper, "disk")
    snapshot = hands.backup("acme")
    ingest(yard.keeper, "disk")
    before = vault(yard)
    record, generation = yard.repository.record(snapshot), yard.repository.generation_of(snapshot)
    (pack,) = [name for name in before if name.endswith(".pack")][:1]
    data, folder = yard.store.get(pack), pack.rpartition("/")[0]
    elsewhere = folder[:-32] + "0" * 32
    keyring = next(name for name in before if name.endswith(".keyring"))
    stranger = Signer(os.urandom(32)).sign(encode_body(record), "snapshot")
    now = datetime.now(UTC)
    bad = {
        "ledger/0000000009.json": b"{}",
        "reports/20300101T000000Z-00000000.json": b"{}",
        f"attestations/{'0' * 64}.json": b"{}",
        "anything": b"at all",
        f"{folder}/{'0' * 64}.pack": data,
        f"{elsewhere}/{hashlib.sha256(data).hexdigest()}.pack": data,
        f"{folder}/{hashlib.sha256(data[:-9]).hexdigest()}.pack": data[:-9],
        f"{folder}/{hashlib.sha256(data).hexdigest()}.part": data,
        f"keyrings/{generation}/20300101T000000Z-00000000.keyring": yard.store.get(keyring),
        f"snapshots/{generation}/20300101T000000Z-{hashlib.sha256(stranger).hexdigest()}": stranger,
    }
    bad |= [
        forged(yard, record, exported=stamp(now + 2 * DAY)),
        forged(yard, record, published=stamp(now + 2 * DAY)),
        forged(yard, record, exported=stamp(now - 11 * DAY)),
        forged(yard, record, extra={"reduced": snapshot}),
        forged(yard, record, region="elsewhere"),
        forged(yard, record, ledger=msgspec.structs.replace(record.ledger, seq=99)),
    ]
    for name, content in bad.items():
        hands.put(name, content)
    done = ingest(yard.keeper, "disk")
    assert {name.removeprefix(f"{OWN}/").replace("+", "/") for name in done.refused} == bad.keys()
    assert vault(yard) == before
    assert hands.files() == bad.keys()
    hands.age(3)
    assert len(ingest(yard.keeper, "disk").refused) == len(bad)
    assert (hands.files(), vault(yard)) == (set(), before)


def test_what_a_node_does_later_harms_nothing_that_was_taken(yard, hands):
    """Bytes written through a handle from before, other content under a taken name, folders and links stay there."""
    hands.backup("acme")
    handles = [path.open("r+b") for path in (yard.root / OWN).iterdir() if path.chmod(0o600) is None and path.is_file()]
    ingest(yard.keeper, "disk")
    before = vault(yard)
    for handle in handles:
        handle.write(b"damage")
        handle.close()
    (pack,) = [name for name in before if name.endswith(".pack")][:1]
    hands.put(pack, b"other")
    (yard.root / OWN / "segments").mkdir()
    (yard.root / OWN / "segments/deep").write_bytes(b"x")
    (yard.root / OWN / flat("ledger/0000000001.json")).symlink_to(yard.root / "repository.json")
    done = ingest(yard.keeper, "disk")
    assert sorted(done.refused) == [f"{OWN}/{flat(pack)}", f"{OWN}/segments/deep"]
    assert vault(yard) == before
    assert "repository.json" in before


def test_what_expired_or_was_purged_does_not_come_back(yard, hands):
    """A node that kept old objects hands them in again: packs and keys of a tenant that is gone, a record that went."""
    snapshot = hands.backup("acme", "bolt")
    kept = {name: hands.own.get(flat(name)) for name in hands.files()}
    ingest(yard.keeper, "disk")
    acme = yard.keeper.tags.tenant_id("acme")
    budget = DeletionBudget(*[timedelta(days=n) for n in (180, 90, 0, 1, 8, 1, 7, 30, 1)])
    erase(TenantDesk(yard.keeper.book, yard.clock, budget, DAY, frozenset()), acme)
    with Purging(yard.keeper) as purging:
        (purged,) = purging.purge(IncarnationKey(acme, 1))
    assert purged.waits_for == ()
    before = vault(yard)
    for name, data in kept.items():
        hands.put(name, data)
    done = ingest(yard.keeper, "disk")
    assert (done.taken, done.refused, vault(yard)) == ({}, {}, before)
    gone = [name for name in before if name.startswith(("keyrings/", "snapshots/"))]
    yard.clock.by = timedelta()
    for name in gone:
        yard.store.remove(name)
    yard.keeper.book.append(lambda _: [ExpiryBegan(store="disk", snapshots=[snapshot])])
    for name, data in kept.items():
        hands.put(name, data)
    done = ingest(yard.keeper, "disk")
    assert {layout.place_of(name.removeprefix(f"{OWN}/").replace("+", "/")).kind for name in done.refused} == {
        layout.ObjectKind.KEYRING,
        layout.ObjectKind.RECORD,
    }
    assert not any(name in vault(yard) for name in gone)


def test_a_purge_waits_for_what_was_handed_in_before(yard, hands):
    """It may be the tenant's; once it was taken, the purge takes it."""
    hands.backup("acme")
    ingest(yard.keeper, "disk")
    acme = yard.keeper.tags.tenant_id("acme")
    budget = DeletionBudget(*[timedelta(days=n) for n in (180, 90, 0, 1, 8, 1, 7, 30, 1)])
    erase(TenantDesk(yard.keeper.book, yard.clock, budget, DAY, frozenset()), acme)
    hands.backup("acme")

    def purge():
        with Purging(yard.keeper) as purging:
            (done,) = purging.purge(IncarnationKey(acme, 1))
        return done

    assert (purge().absent, purge().waits_for) == (False, ("tmp",))
    ingest(yard.keeper, "disk")
    assert purge().absent
    segments = [pseudonym for pseudonym, name in yard.owners.items() if name.tenant == "acme"]
    assert not any(segment in name for name in yard.files() for segment in segments)


def test_an_expiry_leaves_a_generation_alone_that_something_was_handed_in_for(yard, hands):
    """A record among it may refer to what nothing else needs; marks of nodes count as everybody's."""
    snapshot = hands.backup("acme")
    ingest(yard.keeper, "disk")
    generation = yard.repository.generation_of(snapshot)
    hands.backup("acme")
    assert set(yard.plan().left_alone) == {generation}
    with pytest.raises(BusyError, match="handed in"), removal_marked(yard.store, generation, "k", yard.clock):
        pass
    ingest(yard.keeper, "disk")
    assert yard.plan().left_alone == {}
    run = yard.repository.record(snapshot).run
    hands.put(f"runs/{generation}/{run}", b"mark")
    with pytest.raises(BusyError, match="adds to generation"), removal_marked(yard.store, generation, "k", yard.clock):
        pass


def test_what_was_refused_is_handed_in_again_once_the_signer_is_trusted(yard, hands):
    """The keeper removed keys that later backups rely on: the next one needs none of them, and is taken."""
    usual, new = yard.writer.signer, Signer(os.urandom(32))
    yard.writer.signer, yard.writer.others = new, (usual.public,)
    hands.backup("acme", "bolt")
    hands.age(3)
    hands.backup("acme", "bolt")
    refused = ingest(yard.keeper, "disk").refused
    assert {layout.place_of(name.removeprefix(f"{OWN}/").replace("+", "/")).kind for name in refused} == {
        layout.ObjectKind.KEYRING,
        layout.ObjectKind.RECORD,
    }
    assert not any(name.startswith("keyrings/") for name in hands.files())
    trusting = Repository(yard.store, [*yard.repository.signers, new.public], yard.repository.keepers)
    keeper = yard.keeper = replace(yard.keeper, stores={"disk": trusting})
    third = hands.backup("acme", "bolt")
    done = ingest(keeper, "disk")
    assert (sound(yard), done.refused, len(done.waiting)) == ([third], {}, 1)
    hands.age(3)
    ingest(keeper, "disk")
    fourth = hands.backup("acme", "bolt")
    done = ingest(keeper, "disk")
    assert (set(sound(yard)), done.refused, done.waiting) == ({third, fourth}, {}, {})
    records = {name: trusting.record(name) for name in (third, fourth)}
    assert [record.previous for record in records.values()] == [None, third]
    assert len({record.generation for record in records.values()}) == 1


def test_a_clock_that_cannot_be_trusted_takes_nothing(yard, hands):
    """Times are what replays are told by."""
    hands.backup("acme")
    handed = hands.files()
    yard.clock.by = timedelta(hours=1)
    with pytest.raises(RefusedError, match="clock"):
        ingest(yard.keeper, "disk")
    assert hands.files() == handed
