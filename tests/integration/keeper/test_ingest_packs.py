"""What a thief of a node's key hands in: listings computed, sections hashed, records compared, before any is taken."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from doubles.stores.segments import SealedSection, seal_section, take_out
from doubles.stores.small_repository import Content, Rows
from fix_clock import TickingClock
from fix_handmade_keeper import DAY, HandmadeKeeper, named, notes

from backupd.model.documents import Record
from backupd.model.ids import ObjectName, RunId, SnapshotName
from backupd.model.ledger import ClassExpired, PurgeBegan
from backupd.model.text import parse_stamp, stamp
from backupd.operations.keeper.ingest import ingest
from backupd.operations.keeper.ingest_checks import Ingested
from backupd.operations.verify import Scope, Tools, Verification, verify
from backupd.planning.retention import RetentionPolicy
from backupd.planning.verify import parse_share
from backupd.repository import layout
from backupd.repository.packs import OpenPack
from backupd.repository.repository import Repository, signed_record
from backupd.repository.state.checked import CheckedState
from backupd.seal.keyring import KeyringIds, KeyringWriter, SegmentKey, without_lines
from backupd.seal.pack import PresenceMap, SectionRow, make_header, read_header
from backupd.seal.section_format import SectionContext
from backupd.store.directory import DirectoryStore
from backupd.store.handoff import HandoffStore
from backupd.store.names import flat, unflat

OWN = "incoming/n1"
RUN = RunId("20300101T000000Z-0a0b0c0d")
ACME, BOLT = named("acme"), named("bolt")


class Thief:
    """Whoever has a node's signing key and its account, which may only hand in."""

    def __init__(self, handmade: HandmadeKeeper) -> None:
        self.handmade, self.made = handmade, handmade.made
        (handmade.root / "incoming").mkdir()
        self.own = DirectoryStore(handmade.root / OWN)
        self.made.store = HandoffStore(DirectoryStore(handmade.root), self.own)
        self.made.repository = Repository(self.made.store, [self.made.signer.public])

    def backup(self, *tenants: str) -> SnapshotName:
        """An honest backup, handed in."""
        return self.handmade.backup(1, *tenants)

    def put(self, name: str, data: bytes) -> None:
        self.own.put_new(
            ObjectName(flat(ObjectName(name))), io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest()
        )

    def handed(self) -> set[str]:
        names = (path.name for path in (self.handmade.root / OWN).iterdir() if path.is_file())
        return {unflat(name) for name in names}

    def ingest(self) -> Ingested:
        return ingest(self.handmade.keeper, "disk")

    def refused(self, name: str) -> str:
        """Why an object that was handed in is refused; nothing else is, and it is not in its place."""
        done = self.ingest()
        assert {unflat(one.removeprefix(f"{OWN}/")) for one in done.refused} == {name}
        assert not (self.handmade.root / name).exists()
        return next(iter(done.refused.values()))

    def keyring(self, *entries: tuple[Any, Any, Any], run: RunId = RUN) -> tuple[ObjectName, bytes]:
        """A keyring of any names, pseudonyms' owners and tags' owners."""
        made = self.made
        ids = KeyringIds(made.info.repository, made.info.region, made.generation, run)
        writer = KeyringWriter(ids, [made.identity.public])
        for name, whose, tags in entries:
            writer.add(made.pseudonym(whose), bytes(32), name, made.tags_of(tags))
        return layout.keyring_name(ids.generation, run), writer.render(stamp(made.at), made.signer)

    def section(self, whose: Any, place: int = 0, run: RunId = RUN, number: int = 77) -> SealedSection:
        made = self.made
        context = SectionContext(made.info.repository, made.generation, made.pseudonym(whose), number)
        return seal_section(context, SegmentKey(bytes(32), whose), (run, place), [[os.urandom(50)]])

    def pack(self, *sections: SealedSection, without: tuple[int, ...] = ()) -> tuple[ObjectName, bytes]:
        ordered = sorted(sections, key=lambda one: (one.row.segment, one.row.number))
        context = self.made.repository.pack(self.made.generation, next(iter(self.packs()))).header.context
        header = make_header(context, [one.row for one in ordered])
        there = PresenceMap.full(header).without(without)
        data = b"".join((header.raw, there.raw, *(ordered[at].data for at in there.there)))
        return layout.pack_name(context.generation, header.sha256), data

    def packs(self) -> list[Any]:
        return sorted(self.made.repository.list_packs(self.made.generation))

    def record(self, **changes: Any) -> tuple[ObjectName, bytes]:
        """The newest record, changed and signed again."""
        repository = self.handmade.repository
        record = msgspec.structs.replace(repository.record(repository.snapshots()[-1]), **changes)
        name, data = signed_record(record, self.made.signer)
        return layout.record_name(record.generation, name), data

    def verify(self) -> Verification:
        handmade = self.handmade
        with CheckedState(handmade.folder / "checked.sqlite") as checked:
            tools = Tools(TickingClock(), handmade.folder, store="disk", tags=self.made.tags)
            return verify(handmade.repository, checked, Scope(parse_share("all"), self.made.identity.secret), tools)

    def purge_begins(self, tenant: str) -> None:
        handmade, made = self.handmade, self.made
        handmade.erase(tenant)
        segments = [(made.generation, made.pseudonym(named(tenant)))]
        began = PurgeBegan(**handmade.incarnation(tenant)._asdict(), segments=segments, stores=["disk"])
        handmade.keeper.book.append(lambda _: [began])


@pytest.fixture
def thief(handmade: HandmadeKeeper) -> Thief:
    """After an honest backup that was taken."""
    thief = Thief(handmade)
    thief.backup("acme", "bolt")
    done = thief.ingest()
    assert (done.refused, done.waiting) == ({}, {})
    assert thief.verify().clean
    thief.made.at += timedelta(minutes=1)
    return thief


def test_an_honest_pack_and_keyring_are_taken(thief: Thief) -> None:
    """The positive control of everything below."""
    for name, data in (thief.keyring((ACME, ACME, ACME)), thief.pack(thief.section(ACME))):
        thief.put(name, data)
    done = thief.ingest()
    assert (done.refused, done.waiting, done.taken) == ({}, {}, {"keyring": 1, "pack": 1})


def test_a_keyring_with_another_pseudonym_than_that_of_its_tags_is_refused(thief: Thief) -> None:
    """It says of a victim's segment that it is the thief's: a purge of the thief would take the victim's."""
    name, data = thief.keyring((BOLT, BOLT, BOLT), (ACME, ACME, BOLT))
    thief.put(name, data)
    assert "not that of the tags" in thief.refused(name)


@pytest.mark.parametrize("place", [1, 2, 1 << 30])
def test_a_pack_with_a_section_under_another_place_is_refused(thief: Thief, place: int) -> None:
    """Of another segment, or of none."""
    ring = thief.keyring((ACME, ACME, ACME), (BOLT, BOLT, BOLT))
    pack = thief.pack(thief.section(ACME, place), thief.section(BOLT, 1))
    for name, data in (ring, pack):
        thief.put(name, data)
    assert "under a place" in thief.refused(pack[0])


def test_a_pack_under_a_forged_listing_in_place_is_refused(thief: Thief) -> None:
    """The keeper computes the pseudonym itself, whoever put the keyring there."""
    name, data = thief.keyring((ACME, ACME, BOLT))
    thief.handmade.put(name, data, 0)
    pack = thief.pack(thief.section(ACME))
    thief.put(*pack)
    assert "not that of its tags" in thief.refused(pack[0])


def test_a_pack_whose_keyring_cannot_be_believed_waits(thief: Thief) -> None:
    """That is damage on the store, which others tell, and not the node's doing."""
    name, data = thief.keyring((ACME, ACME, ACME))
    thief.handmade.put(name, data[:-2], 0)
    thief.put(*thief.pack(thief.section(ACME)))
    done = thief.ingest()
    assert (done.refused, [why.partition(",")[0] for why in done.waiting.values()]) == ({}, [f"keyring '{RUN}'"])


def test_a_pack_that_lacks_a_section_is_refused(thief: Thief) -> None:
    """Only a keeper takes sections out."""
    thief.put(*thief.keyring((ACME, ACME, ACME), (BOLT, BOLT, BOLT)))
    name, data = thief.pack(thief.section(ACME), thief.section(BOLT, 1), without=(1,))
    thief.put(name, data)
    assert "lacks sections" in thief.refused(name)


def test_a_pack_of_another_size_is_refused(thief: Thief) -> None:
    """What follows the last section would never be read, or be a place for anything."""
    thief.put(*thief.keyring((ACME, ACME, ACME)))
    name, data = thief.pack(thief.section(ACME))
    thief.put(name, data + b"x")
    assert "where its header says" in thief.refused(name)


def test_a_pack_whose_key_is_gone_is_refused(thief: Thief) -> None:
    """Nobody could read it, and no ledger says why."""
    name, data = thief.keyring((ACME, ACME, ACME), (BOLT, BOLT, BOLT))
    keyring = thief.handmade.repository.checked_keyring(data, name)
    thief.handmade.put(name, without_lines(data, keyring, {thief.made.pseudonym(BOLT)}), 0)
    pack = thief.pack(thief.section(ACME), thief.section(BOLT, 1))
    thief.put(*pack)
    assert "nobody purged it" in thief.refused(pack[0])


def test_a_pack_with_a_section_of_another_hash_is_refused(thief: Thief) -> None:
    """Whichever of its sections it is."""
    thief.put(*thief.keyring((ACME, ACME, ACME), (BOLT, BOLT, BOLT)))
    name, data = thief.pack(thief.section(ACME), thief.section(BOLT, 1))
    there = PresenceMap.full(read_header(data, name))
    for at in (0, 1):
        for place in (there.offsets[at], there.offsets[at + 1] - 1):
            thief.put(name, data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            assert f"section {at} of '{name}' does not have the hash" in thief.refused(name)
            thief.own.remove(ObjectName(flat(name)))


def test_a_keyring_that_lacks_a_line_is_refused(thief: Thief) -> None:
    """Nobody purged it."""
    name, data = thief.keyring((ACME, ACME, ACME), (BOLT, BOLT, BOLT))
    keyring = thief.handmade.repository.checked_keyring(data, name)
    thief.put(name, without_lines(data, keyring, {thief.made.pseudonym(BOLT)}))
    assert "lacks keys, and nobody purged them" in thief.refused(name)


def test_a_run_that_a_purge_overtook_is_taken_without_what_was_purged(thief: Thief) -> None:
    """Neither lines nor sections of the tenant come in; everybody else's backup is there, and sound."""
    before = set(thief.packs())
    name = thief.made.snapshot({ACME: notes("new"), BOLT: notes("new", "newer"), named("cyd"): notes("first")})
    thief.purge_begins("acme")
    done = thief.ingest()
    assert (done.refused, done.waiting) == ({}, {})
    doomed, repository = thief.made.pseudonym(ACME), thief.handmade.repository
    newest = repository.record(name)
    fresh_sections = [
        (segment == doomed, section.is_there)
        for (segment, _), section in repository.sections(newest).sections.items()
        if section.pack.header.sha256 not in before
    ]
    assert set(fresh_sections) == {(True, False), (False, True)}
    fresh = [ring for ring in repository.keyrings(newest.generation) if ring.ids.run == newest.run]
    assert [ring.shredded for ring in fresh] == [{doomed}]
    assert thief.verify().findings == ()


def test_a_pack_of_nobody_but_the_purged_is_taken_as_its_header(thief: Thief) -> None:
    """A record may name it, and only its header says whose sections are gone."""
    thief.purge_begins("acme")
    ring, pack = thief.keyring((ACME, ACME, ACME)), thief.pack(thief.section(ACME))
    for name, data in (ring, pack):
        thief.put(name, data)
    done = thief.ingest()
    assert (done.refused, done.taken) == ({}, {"keyring": 1, "pack": 1})
    opened = thief.handmade.repository.pack(thief.made.generation, layout.place_of(pack[0]).sha256)
    assert (opened.there.there, (thief.handmade.root / pack[0]).stat().st_size) == ([], opened.there.pack_size)


def test_what_was_taken_smaller_is_not_compared_again(thief: Thief) -> None:
    """Handed in a second time, a pack or keyring without what was purged stays as it is."""
    thief.made.snapshot({ACME: notes("new"), named("cyd"): notes("first")})
    handed = {name: thief.own.get(ObjectName(flat(ObjectName(name)))) for name in thief.handed()}
    thief.purge_begins("acme")
    thief.ingest()
    before = thief.handmade.files()
    assert sum((thief.handmade.root / name).stat().st_size < len(data) for name, data in handed.items()) >= 2
    for name, data in handed.items():
        thief.put(name, data)
    done = thief.ingest()
    assert (done.refused, done.waiting, done.taken, done.dropped) == ({}, {}, {}, len(handed))
    assert thief.handmade.files() == before


def wrong_ranges(record: Record) -> list[Any]:
    first, *rest = record.packs
    return [(first[0], first[1], [99, 1]), *rest]


def both_manifests(record: Record) -> list[Any]:
    return [(name, sorted_ranges(manifests, others), []) for name, manifests, others in record.packs]


def sorted_ranges(one: list[int], other: list[int]) -> list[int]:
    pairs = sorted(zip([*one[::2], *other[::2]], [*one[1::2], *other[1::2]], strict=True))
    merged: list[int] = []
    for first, count in pairs:
        if merged and merged[-2] + merged[-1] == first:
            merged[-1] += count
        else:
            merged += [first, count]
    return merged


@pytest.mark.parametrize("change", [wrong_ranges, both_manifests])
def test_a_record_that_names_what_cannot_be_is_refused(thief: Thief, change: Callable[[Record], list[Any]]) -> None:
    """Sections that no header lists, or two manifests of one segment."""
    thief.made.snapshot({ACME: Content((Rows("public", "note", ("said",), (b"x\n",)),))})
    thief.ingest()
    repository = thief.handmade.repository
    record = repository.record(repository.snapshots()[-1])
    name, data = thief.record(packs=change(record))
    thief.put(name, data)
    thief.refused(name)


def test_a_record_that_needs_what_is_gone_is_refused(thief: Thief) -> None:
    """Unless the ledger says why it is gone."""
    repository, made = thief.handmade.repository, thief.made
    record = repository.record(repository.snapshots()[-1])
    name, data = thief.record(previous=repository.snapshots()[-1])
    lost: list[tuple[OpenPack, int]] = [
        (section.pack, section.at)
        for (segment, _), section in repository.sections(record).sections.items()
        if segment == made.pseudonym(ACME)
    ]
    pack, at = lost[0]
    take_out(thief.handmade.store.inner, pack, [at])
    thief.put(name, data)
    assert "which is gone" in thief.refused(name)
    thief.purge_begins("acme")
    assert thief.ingest().taken == {"record": 1}


def test_a_record_that_needs_what_went_with_its_class_is_taken(thief: Thief) -> None:
    """It was exported before that instant; a later one is refused as for anything else that is gone."""
    repository, made = thief.handmade.repository, thief.made
    record = repository.record(repository.snapshots()[-1])
    name, data = thief.record(previous=repository.snapshots()[-1])
    for (segment, _), section in repository.sections(record).sections.items():
        if segment == made.pseudonym(ACME):
            pack = repository.pack(made.generation, section.pack.header.sha256)
            take_out(thief.handmade.store.inner, pack, [section.at])
    tag = made.tags.class_tag(made.generation, "uploaded")
    for before in (record.exported, stamp(parse_stamp(record.exported) + timedelta(seconds=1))):
        thief.handmade.keeper.book.append(
            lambda _, before=before: [
                ClassExpired(store="disk", generation=made.generation, class_tag=tag, before=before)
            ]
        )
        thief.put(name, data)
        done = thief.ingest()
        assert (len(done.refused), done.taken) == ((1, {}) if before == record.exported else (0, {"record": 1}))
        thief.own.remove(ObjectName(flat(name)))


def test_a_record_of_packs_under_a_wrong_key_is_refused(thief: Thief) -> None:
    """Packs that stand there already are held against their keyrings, too: a node may have put them there itself."""
    section = thief.section(ACME, 0, thief.handmade.repository.keyrings(thief.made.generation)[0].ids.run)
    wrong = replace(section, row=SectionRow(**{**section.row._asdict(), "place": 40}))
    pack, content = thief.pack(wrong)
    thief.handmade.put(pack, content, 0)
    repository = thief.handmade.repository
    record = repository.record(repository.snapshots()[-1])
    packs = sorted([*record.packs, (layout.place_of(pack).sha256, [], [0, 1])])
    name, data = thief.record(packs=packs)
    thief.put(name, data)
    assert "under a place" in thief.refused(name)


def test_notes_are_read_back(thief: Thief) -> None:
    """What was taken restores: every row is compared by verify."""
    thief.made.snapshot({ACME: notes("more"), BOLT: notes("even more")})
    assert set(thief.ingest().taken) == {"keyring", "pack", "record"}
    result = thief.verify()
    assert (result.findings, result.opened > 0) == ((), True)


def test_a_record_that_is_dated_back_is_refused(thief: Thief) -> None:
    """No run hands its record in more than a day after its export; with an old date it would drive a true one out."""
    newest = thief.handmade.repository.record(thief.handmade.repository.snapshots()[-1])
    name, data = thief.record(exported=stamp(parse_stamp(newest.exported) - timedelta(days=3)))
    thief.put(name, data)
    assert "was handed in later than any run would" in thief.refused(name)


def test_a_record_that_names_nothing_is_refused(thief: Thief) -> None:
    """An honest one names at least the structure."""
    name, data = thief.record(packs=[])
    thief.put(name, data)
    assert "names nothing" in thief.refused(name)


def test_who_dates_a_file_back_in_a_nodes_own_folder_drives_nothing_out(thief: Thief) -> None:
    """It passes the ingest, and comes to its place at a time that the keeper's own copy shows."""
    handmade = thief.handmade
    rules = RetentionPolicy(timedelta(hours=1), daily=30, weekly=0, monthly=0, max_age=90 * DAY, keep_minimum=0)
    handmade.ruled(retention=rules)
    true = handmade.backup(3, "acme")
    assert thief.ingest().refused == {}
    record = handmade.repository.record(true)
    handmade.age(layout.record_name(record.generation, true), 3)  # as if taken at once
    at = parse_stamp(record.exported).replace(hour=23, minute=59, second=59, microsecond=999_999)
    lie, data = signed_record(msgspec.structs.replace(record, exported=stamp(at)), thief.made.signer)
    name = layout.record_name(record.generation, lie)
    thief.put(name, data)
    os.utime(handmade.root / OWN / flat(name), (at.timestamp(), at.timestamp()))
    assert thief.ingest().taken == {"record": 1}
    decisions = {one.snapshot.name: one for one in handmade.plan().decisions}
    assert (decisions[true].keep, decisions[lie].keep) == (True, False)
    assert "came to the store later than any run would bring it" in decisions[lie].reasons
