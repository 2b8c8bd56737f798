"""Taking what a node handed in: all of it once, in order, whatever stops it; and nothing no honest node hands in."""

from __future__ import annotations

import hashlib
import io
import json
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from doubles.samples.budgets import HALF_A_YEAR
from doubles.stores.fake_writer import Made, segment
from doubles.stores.faulty_store import FaultyStore
from doubles.stores.objects import put
from fix_offline_keeper import DAY

from backupd.errors import BusyError, RefusedError, StoreGoneError
from backupd.model.documents import RepositoryInfo, encode_body
from backupd.model.ledger import ExpiryBegan
from backupd.model.text import stamp
from backupd.operations.keeper.ingest import found, ingest, troubles
from backupd.operations.keeper.purge import Purging
from backupd.operations.snapshots.lines import record_lines
from backupd.operations.tenants.changes import TenantDesk, erase
from backupd.planning.incarnations import IncarnationKey
from backupd.repository import help_files, layout
from backupd.repository.marks import removal_marked
from backupd.repository.moved_objects import begins_as_ours
from backupd.repository.packs import fetch_section
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.store.directory import DirectoryStore
from backupd.store.handoff import HandoffStore
from backupd.store.names import flat, unflat

OWN = "incoming/n1"


class Hands:
    """A node beside the offline keeper that may only hand in."""

    def __init__(self, offline):
        self.offline = offline
        (offline.root / "incoming").mkdir()
        self.own = DirectoryStore(offline.root / OWN)
        self.store = HandoffStore(DirectoryStore(offline.root), self.own)

    def backup(self, *tenants, stages=9, at=None):
        """A run that ends after so many stages; returns its snapshot."""
        content = {segment("structure", None): [b"ddl\n"]}
        content |= {
            segment("uploaded", tenant): [b"first\n", f"{os.urandom(8)} {tenant}\n".encode()] for tenant in tenants
        }
        made = Made()
        self.offline.writer.clock.time.now = at or datetime.now(UTC)
        steps = self.offline.writer.run("disk", self.store, content, made)
        for _, _ in zip(range(stages), steps, strict=False):
            pass
        steps.close()
        return made.snapshot

    def put(self, target, data):
        self.own.put_new(flat(target), io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())

    def files(self):
        """What lies in the node's folder, by the name it is to have."""
        return {unflat(name.removeprefix(f"{OWN}/")) for name in self.offline.files() if name.startswith(OWN)}

    def age(self, days):
        for name in self.offline.files():
            if name.startswith(OWN):
                self.offline.age(name, days)


@pytest.fixture
def hands(offline):
    return Hands(offline)


def vault(offline):
    return {
        name: digest
        for name, digest in offline.files().items()
        if not name.startswith(("incoming/", "ledger/", "tmp/"))
    }


def sound(offline):
    """Every record there, with all it names on the store."""
    repository = offline.repository
    for generation, name in repository.records():
        listed = {ring.ids.run: ring.index for ring in repository.keyrings(generation)}
        for section in repository.sections(repository.record(name, generation)).sections.values():
            assert section.is_there
            assert listed[section.row.keyring][section.row.place][0] == section.row.segment
            fetch_section(repository.store, section)
    return repository.snapshots()


def test_everything_handed_in_comes_to_its_place(offline, hands):
    """The record last, each object as it was; the node goes on from what was taken, and finds nothing to take back."""
    first = hands.backup("acme", "bolt")
    handed = hands.files()
    assert sound(offline) == []
    done = ingest(offline.keeper, "disk")
    assert (set(done.taken), done.waiting, done.refused) == ({"pack", "keyring", "record"}, {}, {})
    assert troubles(done) is None
    assert hands.files() == set()
    assert handed <= vault(offline).keys()
    put = [layout.place_of(name).kind for name in offline.store.put if name in handed]
    order = [layout.ObjectKind.KEYRING, layout.ObjectKind.PACK, layout.ObjectKind.RECORD]
    assert sorted(put, key=order.index) == put
    assert sound(offline) == [first]
    packs = [name for name in vault(offline) if name.endswith(".pack")]
    second = hands.backup("acme", "bolt")
    assert not any(name in hands.files() for name in packs)
    ingest(offline.keeper, "disk")
    assert set(sound(offline)) == {first, second}
    assert ingest(offline.keeper, "disk").taken == {}


def test_a_record_names_those_that_still_wait(offline, hands):
    """So that all of a node's are one line, whichever of them a keeper takes in the end."""
    made = [hands.backup("ada") for _ in range(3)]
    waiting = {one.name: one for one in hands.own.list("")}
    told = {}
    for name in waiting:
        if (snapshot := layout.place_of(unflat(name)).snapshot) is not None:
            record = json.loads(hands.own.get(name).partition(b"\n")[0])
            told[snapshot] = record["previous"], record.get("handed")
    assert [told[one] for one in made] == [(None, None), (None, made[:1]), (None, made[:2])]
    ingest(offline.keeper, "disk")
    made.append(hands.backup("ada"))
    ingest(offline.keeper, "disk")
    repository = offline.repository
    last = repository.record(made[3])
    assert (last.previous, last.extra.get("handed")) == (made[2], None)
    assert record_lines({one: repository.record(one).follows for one in made}, {}) == (frozenset(made),)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_call_of_an_ingest_may_fail(offline, hands, after):
    """Cut at each call in turn: what stands there is whole, and the run after it completes."""
    snapshots, number = [], 0
    while True:
        number += 1
        snapshots.append(hands.backup("acme"))
        faulty = FaultyStore(offline.store, number, after=after)
        repository = Repository(faulty, offline.repository.signers, offline.repository.keepers)
        keeper = replace(offline.keeper, stores={"disk": repository}, threads=1)
        try:
            ingest(keeper, "disk")
        except StoreGoneError:
            assert set(sound(offline)) <= set(snapshots)
            before = vault(offline)
            done = ingest(offline.keeper, "disk")
            assert (done.waiting, done.refused) == ({}, {})
            assert before.items() <= vault(offline).items()
        assert sorted(sound(offline)) == sorted(snapshots)
        assert hands.files() == set()
        if len(faulty.calls) < number:
            break
    assert number > 15


@pytest.mark.parametrize(("kind", "waiting"), [("pack", {"record"}), ("keyring", {"pack", "record"})])
def test_half_of_a_run_waits_for_the_rest(offline, hands, kind, waiting):
    """Of a run under way what is complete in itself is taken; what refers to something that is not there is not."""
    snapshot = hands.backup("acme")
    (name,) = [name for name in hands.files() if name.endswith(kind)][:1]
    data = hands.own.get(flat(name))
    hands.own.remove(flat(name))
    done = ingest(offline.keeper, "disk")
    left = {layout.place_of(unflat(one.removeprefix(f"{OWN}/"))).kind.value for one in done.waiting}
    assert (left, done.refused) == (waiting, {})
    assert any(name.rpartition("/")[2].partition(".")[0] in why for why in done.waiting.values())
    assert sound(offline) == []
    hands.put(name, data)
    ingest(offline.keeper, "disk")
    assert sound(offline) == [snapshot]


def test_what_waited_too_long_is_refused_and_goes(offline, hands):
    """Two days are longer than any run."""
    hands.backup("acme")
    for name in hands.files():
        if name.endswith(".pack"):
            hands.own.remove(flat(name))
    hands.age(3)
    done = ingest(offline.keeper, "disk")
    assert [why.split(" for ")[0] for why in done.refused.values()] == ["waited in vain"]
    assert isinstance(troubles(done), RefusedError)
    assert hands.files() == set()


def forged(offline, record, **changes):
    """A record as a thief of the node's key signs one."""
    data = offline.writer.signer.sign(encode_body(msgspec.structs.replace(record, **changes)), "snapshot")
    at = (changes.get("exported") or record.exported)[:19].replace("-", "").replace(":", "") + "Z"
    return f"snapshots/{record.generation}/{at}-{hashlib.sha256(data).hexdigest()}", data


PACKS = {
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "flipped": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "headless": lambda data: data[1:],
    "empty": lambda _: b"",
}


@pytest.mark.parametrize("how", PACKS)
def test_nothing_is_taken_that_a_node_may_not_add(offline, hands, how):
    """Whatever a thief of the node's key hands in is told by name, stays out of the store, and goes after two days."""
    ingest(offline.keeper, "disk")
    snapshot = hands.backup("acme")
    ingest(offline.keeper, "disk")
    before = vault(offline)
    record, generation = offline.repository.record(snapshot), offline.repository.generation_of(snapshot)
    (pack,) = [name for name in before if name.endswith(".pack")][:1]
    data, folder = offline.store.get(pack), pack.rpartition("/")[0]
    offline.store.remove(pack)
    before.pop(pack)
    damaged = PACKS[how](data)
    keyring = next(name for name in before if name.endswith(".keyring"))
    stranger = Signer(os.urandom(32)).sign(encode_body(record), "snapshot")
    now = datetime.now(UTC)
    bad = {
        "ledger/0000000009.json": b"{}",
        "reports/20300101T000000Z-00000000.json": b"{}",
        f"attestations/{'0' * 64}.json": b"{}",
        "anything": b"at all",
        f"{folder}/{'0' * 64}.pack": data,
        f"packs/20300101T000000Z-00000000/{pack.rpartition('/')[2]}": data,
        f"{pack}": damaged,
        f"keyrings/{generation}/20300101T000000Z-00000000.keyring": offline.store.get(keyring),
        f"snapshots/{generation}/20300101T000000Z-{hashlib.sha256(stranger).hexdigest()}": stranger,
    }
    bad |= [
        forged(offline, record, exported=stamp(now + 2 * DAY)),
        forged(offline, record, published=stamp(now + 2 * DAY)),
        forged(offline, record, exported=stamp(now - 11 * DAY)),
        forged(offline, record, extra={"reduced": snapshot}),
        forged(offline, record, region="elsewhere"),
        forged(offline, record, ledger=msgspec.structs.replace(record.ledger, seq=99)),
    ]
    for name, content in bad.items():
        hands.put(name, content)
    done = ingest(offline.keeper, "disk")
    assert {unflat(name.removeprefix(f"{OWN}/")) for name in done.refused} == bad.keys()
    assert vault(offline) == before
    assert hands.files() == bad.keys()
    hands.age(3)
    done = ingest(offline.keeper, "disk")
    assert len(done.refused) == len(bad)
    # A pack is missing, and one of these is it: what begins as ours stays until that is back.
    assert hands.files() == {name for name, content in bad.items() if begins_as_ours(content)}
    assert pack in done.refused[f"{OWN}/{flat(folder)}+{'0' * 64}.pack"]
    put(offline.store, pack, data)
    ingest(offline.keeper, "disk")
    assert (hands.files(), vault(offline).keys()) == (set(), before.keys() | {pack})


def test_what_a_node_does_later_harms_nothing_that_was_taken(offline, hands):
    """Bytes written through a handle from before, other content under a taken name, folders and links stay there."""
    hands.backup("acme")
    handles = [
        path.open("r+b") for path in (offline.root / OWN).iterdir() if path.chmod(0o600) is None and path.is_file()
    ]
    ingest(offline.keeper, "disk")
    before = vault(offline)
    for handle in handles:
        handle.write(b"damage")
        handle.close()
    (pack,) = [name for name in before if name.endswith(".pack")][:1]
    hands.put(pack, b"other")
    (offline.root / OWN / "packs").mkdir()
    (offline.root / OWN / "packs/deep").write_bytes(b"x")
    (offline.root / OWN / flat("ledger/0000000001.json")).symlink_to(offline.root / "repository.json")
    done = ingest(offline.keeper, "disk")
    assert sorted(done.refused) == [f"{OWN}/packs/deep"]
    assert vault(offline) == before
    assert "repository.json" in before


def test_what_expired_or_was_purged_does_not_come_back(offline, hands):
    """A node that kept old objects hands them in again: packs and keys of a tenant that is gone, a record that went."""
    snapshot = hands.backup("acme", "bolt")
    kept = {name: hands.own.get(flat(name)) for name in hands.files()}
    ingest(offline.keeper, "disk")
    acme = offline.keeper.tags.tenant_id("acme")
    erase(TenantDesk(offline.keeper.book, offline.clock, HALF_A_YEAR, DAY, frozenset()), acme)
    with Purging(offline.keeper) as purging:
        (purged,) = purging.purge(IncarnationKey(acme, 1))
    assert purged.waits_for == ()
    before = vault(offline)
    for name, data in kept.items():
        hands.put(name, data)
    done = ingest(offline.keeper, "disk")
    assert (done.taken, done.refused, vault(offline)) == ({}, {}, before)
    offline.clock.by = timedelta()
    for name in kept:
        offline.store.remove(name)
    offline.keeper.book.append(lambda _: [ExpiryBegan(store="disk", snapshots=[snapshot])])
    for name, data in kept.items():
        hands.put(name, data)
    done = ingest(offline.keeper, "disk")
    assert {layout.place_of(unflat(name.removeprefix(f"{OWN}/"))).kind for name in done.refused} == {
        layout.ObjectKind.RECORD
    }
    assert {name: digest for name, digest in vault(offline).items() if name in kept} == {
        name: digest for name, digest in before.items() if name in kept and not name.startswith("snapshots/")
    }


def test_a_purge_waits_for_what_was_handed_in_before(offline, hands):
    """It may be the tenant's; once it was taken, the purge takes it."""
    hands.backup("acme")
    ingest(offline.keeper, "disk")
    acme = offline.keeper.tags.tenant_id("acme")
    erase(TenantDesk(offline.keeper.book, offline.clock, HALF_A_YEAR, DAY, frozenset()), acme)
    hands.backup("acme")

    def purge():
        with Purging(offline.keeper) as purging:
            (done,) = purging.purge(IncarnationKey(acme, 1))
        return done

    assert (purge().absent, purge().waits_for) == (False, ("tmp",))
    ingest(offline.keeper, "disk")
    assert purge().absent
    segments = {pseudonym for pseudonym, name in offline.owners.items() if name.tenant == "acme"}
    repository = offline.repository
    for generation in {generation for generation, _ in repository.records()}:
        packs = [repository.pack(generation, sha256) for sha256 in repository.list_packs(generation)]
        assert not segments & {section.row.segment for pack in packs for section in pack.sections()}
        assert segments & {row.segment for pack in packs for row in pack.header.rows}


def test_an_expiry_leaves_a_generation_alone_that_something_was_handed_in_for(offline, hands):
    """A record among it may refer to what nothing else needs; marks of nodes count as everybody's."""
    snapshot = hands.backup("acme")
    ingest(offline.keeper, "disk")
    generation = offline.repository.generation_of(snapshot)
    hands.backup("acme")
    assert set(offline.plan().left_alone) == {generation}
    with pytest.raises(BusyError, match="handed in"), removal_marked(offline.store, generation, "k", offline.clock):
        pass
    ingest(offline.keeper, "disk")
    assert offline.plan().left_alone == {}
    run = offline.repository.record(snapshot).run
    hands.put(f"runs/{generation}/{run}", b"mark")
    with (
        pytest.raises(BusyError, match="adds to generation"),
        removal_marked(offline.store, generation, "k", offline.clock),
    ):
        pass


def test_what_was_refused_is_handed_in_again_once_the_signer_is_trusted(offline, hands):
    """The keeper removed keys that later backups rely on: the next one needs none of them, and is taken."""
    usual, new = offline.writer.signer, Signer(os.urandom(32))
    offline.writer.signer, offline.writer.others = new, (usual.public,)
    hands.backup("acme", "bolt")
    hands.age(3)
    hands.backup("acme", "bolt")
    refused = ingest(offline.keeper, "disk").refused
    assert {layout.place_of(unflat(name.removeprefix(f"{OWN}/"))).kind for name in refused} == {
        layout.ObjectKind.KEYRING,
        layout.ObjectKind.PACK,  # those that waited in vain for a keyring that was refused
        layout.ObjectKind.RECORD,
    }
    assert sum(name.startswith("keyrings/") for name in hands.files()) == 1
    trusting = Repository(offline.store, [*offline.repository.signers, new.public], offline.repository.keepers)
    keeper = offline.keeper = replace(offline.keeper, stores={"disk": trusting})
    third = hands.backup("acme", "bolt")
    done = ingest(keeper, "disk")
    assert (sound(offline), done.refused, len(done.waiting)) == ([third], {}, 1)
    hands.age(3)
    ingest(keeper, "disk")
    fourth = hands.backup("acme", "bolt")
    done = ingest(keeper, "disk")
    assert (set(sound(offline)), done.refused, done.waiting) == ({third, fourth}, {}, {})
    records = {name: trusting.record(name) for name in (third, fourth)}
    assert [record.previous for record in records.values()] == [None, third]
    assert len({record.generation for record in records.values()}) == 1


def test_a_clock_that_cannot_be_trusted_takes_nothing(offline, hands):
    """Times are what replays are told by."""
    hands.backup("acme")
    handed = hands.files()
    offline.clock.by = timedelta(hours=1)
    with pytest.raises(RefusedError, match="clock"):
        ingest(offline.keeper, "disk")
    assert hands.files() == handed


def test_a_repository_with_the_hash_of_another_recover_is_not_made(tmp_path):
    """The keeper puts its own files, never a node's: what is signed must be their hash, or `verify` would complain."""
    (tmp_path / "be" / OWN).mkdir(parents=True)
    store, signer = DirectoryStore(tmp_path / "be"), Signer(os.urandom(32))
    for sha256, made in (("ab" * 32, False), (help_files.own_hashes()["recover"], True)):
        info = RepositoryInfo(
            repository="ab" * 16,
            region="be",
            created=stamp(datetime.now(UTC)),
            signers=[signer.public],
            help={**help_files.own_hashes(), "recover": sha256},
        )
        (tmp_path / "be" / OWN / "repository.json").write_bytes(signer.sign(encode_body(info), "repository"))
        if made:
            assert found("be", store, [signer.public], None)
            assert store.get("recover") == help_files.script()
        else:
            with pytest.raises(RefusedError, match="another `recover`"):
                found("be", store, [signer.public], None)
            assert not Repository(store, [signer.public]).exists()


@pytest.mark.parametrize("at", range(1, 12))
def test_a_clock_that_is_set_while_objects_are_taken_removes_none(offline, hands, monkeypatch, at):
    """It agreed with the store's at the beginning; what is judged by its age is judged by that time."""
    hands.backup("acme")
    handed, now, readings = hands.files(), offline.clock.now, []
    keeper = replace(offline.keeper, rules=replace(offline.keeper.rules, clock_tolerance=timedelta(minutes=5)))

    def jumping():
        readings.append(now())
        return readings[-1] + (timedelta(days=730) if len(readings) >= at else timedelta())

    with monkeypatch.context() as patch:
        patch.setattr(offline.clock, "now", jumping)
        with suppress(RefusedError):
            ingest(keeper, "disk")
    assert handed <= hands.files() | vault(offline).keys()
    assert ingest(keeper, "disk").refused == {}
    assert len(sound(offline)) == 1
