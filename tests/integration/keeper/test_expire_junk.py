"""Things under our names that nobody made by our rules hold nothing up: they are told, and go where that is safe."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from fix_handmade_keeper import DAY, HandmadeKeeper

from backupd.model.ids import ObjectHash, RunId, SnapshotName
from backupd.model.ledger import ExpiryBegan
from backupd.repository import layout
from backupd.seal.documents import Signer
from backupd.seal.pack import PackContext, SectionRow, make_header

ARRIVED = "20300101T000000Z-"


def _noise_pack(handmade: HandmadeKeeper) -> tuple[str, bytes]:
    return layout.pack_name(handmade.made.generation, ObjectHash("ab" * 32)), b"noise" * 100


def _cut_pack(handmade: HandmadeKeeper) -> tuple[str, bytes]:
    """A pack whose header is as its name says, and whose sections are not there."""
    run = RunId("20300101T000000Z-00000000")
    context = PackContext(handmade.made.info.repository, handmade.made.generation)
    row = SectionRow(handmade.pseudonym("ada"), run, 0, 1, 4_000, b"h" * 32)
    header = make_header(context, [row])
    return layout.pack_name(handmade.made.generation, header.sha256), header.raw


def _newer_pack(handmade: HandmadeKeeper) -> tuple[str, bytes]:
    """A pack that asks for a feature nobody has: nobody signs a header."""
    raw = bytearray(_cut_pack(handmade)[1])
    raw = raw.replace(b'"features":[]', b'"features":["x"]')
    raw[8:12] = (int.from_bytes(raw[8:12], "little") + 3).to_bytes(4, "little")
    return layout.pack_name(handmade.made.generation, ObjectHash(hashlib.sha256(raw).hexdigest())), bytes(raw)


def _noise_keyring(handmade: HandmadeKeeper) -> tuple[str, bytes]:
    return layout.keyring_name(handmade.made.generation, RunId("20991231T000000Z-deadbeef")), b"noise"


def _strangers_keyring(handmade: HandmadeKeeper) -> tuple[str, bytes]:
    name = layout.keyring_name(handmade.made.generation, RunId("20991231T000000Z-deadbeef"))
    return name, Signer(os.urandom(32)).sign(b'{"kind":"keyring","format":2,"features":[]}', "keyring")


JUNK = [_noise_pack, _cut_pack, _newer_pack, _noise_keyring, _strangers_keyring]


@pytest.mark.parametrize("make", JUNK)
def test_what_nobody_can_believe_and_nothing_names_holds_nothing_up(
    handmade: HandmadeKeeper, make: Callable[[HandmadeKeeper], tuple[str, bytes]]
) -> None:
    """It is named while it is young, and goes as an orphan goes; all else of its generation expires beside it."""
    handmade.backup(50, "ada")
    handmade.backup(1, "bob")
    name, data = make(handmade)
    handmade.put(name, data, days_ago=1)
    plan = handmade.plan()
    assert plan.left_alone == {}
    assert list(plan.junk) == [name]
    assert name.rpartition("/")[2].partition(".")[0] in plan.junk[name]
    assert handmade.execute(plan).snapshots == 1
    assert name in handmade.files()
    handmade.age(name, days_ago=3)
    done = handmade.expire()
    assert done.objects == 1
    assert name not in handmade.files()
    plan = handmade.plan()
    assert (plan.junk, plan.left_alone, plan.objects) == ({}, {}, 0)


def test_a_generation_of_junk_alone_goes(handmade: HandmadeKeeper) -> None:
    """A folder that somebody made of nothing leaves nothing behind."""
    handmade.backup(1, "ada")
    handmade.put("packs/20200101T000000Z-00000000/" + "cd" * 32 + ".pack", b"noise", days_ago=9)
    handmade.expire()
    assert not [name for name in handmade.files() if "20200101T000000Z" in name]


def _record(handmade: HandmadeKeeper, data: bytes) -> tuple[SnapshotName, str]:
    name = SnapshotName(f"{ARRIVED}{hashlib.sha256(data).hexdigest()}")
    return name, layout.record_name(handmade.made.generation, name)


def test_a_record_nobody_can_believe_goes_when_every_snapshot_of_its_time_is_gone(handmade: HandmadeKeeper) -> None:
    """Until then it may be a true one that was damaged, so it holds its generation, by name."""
    handmade.backup(50, "ada")
    handmade.backup(1, "ada")
    snapshot, name = _record(handmade, b"noise")
    handmade.put(name, b"noise", days_ago=9)
    plan = handmade.plan()
    assert snapshot in plan.left_alone[handmade.made.generation]
    handmade.execute(plan)
    assert name in handmade.files()
    handmade.age(name, days_ago=11)
    handmade.expire()
    assert name not in handmade.files()
    assert snapshot in handmade.events(ExpiryBegan)[-1].snapshots
    handmade.expire()
    assert handmade.plan().left_alone == {}


def test_a_record_that_came_since_the_last_look_is_not_as_old_as_its_store_says(handmade: HandmadeKeeper) -> None:
    """Who may set a file's time may not make a keeper remove what was damaged yesterday."""
    handmade.backup(1, "ada")
    handmade.expire()
    _, name = _record(handmade, b"noise")
    handmade.put(name, b"noise", days_ago=11)
    handmade.expire()
    assert name in handmade.files()
    assert list(handmade.plan().left_alone) == [handmade.made.generation]


def test_a_record_nobody_can_believe_stays_while_a_tenant_is_held(handmade: HandmadeKeeper) -> None:
    """It may be one that the hold keeps."""
    from backupd.planning import lifecycle

    handmade.backup(1, "ada")
    review = datetime.now(UTC) + 30 * DAY
    handmade.keeper.book.append(lambda states: lifecycle.hold(states, handmade.tenant("ada"), "case-1", review))
    _, name = _record(handmade, b"noise")
    handmade.put(name, b"noise", days_ago=11)
    handmade.expire()
    assert name in handmade.files()


def test_a_copy_of_a_record_in_another_generation_takes_nothing_with_it(handmade: HandmadeKeeper) -> None:
    """The true one under the same name stays, and so does all it needs; the ledger says nothing of it."""
    true = handmade.backup(1, "ada")
    generation = handmade.repository.generation_of(true)
    handmade.made.start_generation()
    other = handmade.backup(0.5, "ada")
    data = (handmade.root / layout.record_name(generation, true)).read_bytes()
    copy = layout.record_name(handmade.repository.generation_of(other), true)
    handmade.put(copy, data, days_ago=11)
    before = set(handmade.files())
    handmade.expire()
    after = set(handmade.files())
    assert before - after == {copy}
    assert not [one for began in handmade.events(ExpiryBegan) for one in began.snapshots]
    assert handmade.expire().objects == 0


def test_a_mark_dated_ahead_blocks_nothing(handmade: HandmadeKeeper) -> None:
    """Who may set times could hold a generation for ever: such a mark is nobody's, and goes."""
    handmade.backup(50, "ada")
    handmade.backup(1, "ada")
    for kind in ("20300101T000000Z-00000000", "keeper"):
        handmade.put(f"runs/{handmade.made.generation}/{kind}", b"", days_ago=-3)
    plan = handmade.plan()
    assert plan.left_alone == {}
    handmade.execute(plan)
    assert not handmade.names("runs")
