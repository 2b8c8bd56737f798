"""What an account that may only add can move off its name, a keeper never clears away: not as a leftover, as junk, as a
mark or a lease, also where something else was put in its place.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec
import pytest
from fix_handmade_keeper import DAY, POLICY, HandmadeKeeper

from backupd.cli.commands.keeper import _expired_lines
from backupd.clock import SystemClock
from backupd.model.ids import ObjectName
from backupd.model.ledger import Attested, Drilled
from backupd.model.text import compact, stamp
from backupd.operations.keeper.ingest import ingest
from backupd.planning.expiry import Item
from backupd.repository.lease import Claimant, Lease
from backupd.repository.marks import removal_marked, rewrite_marked
from backupd.repository.moved_objects import clear_place
from backupd.repository.repository import signed_record
from backupd.store.ballast import BallastedStore
from backupd.store.names import BALLAST
from backupd.trace import Warned

UPLOAD = f"tmp/{'0f' * 16}"
OTHER = "20200101T000000Z-00000000"


def backups(handmade: HandmadeKeeper) -> None:
    """Three snapshots of two tenants that a keeper has seen, old enough for all that is left over to go."""
    for day in (6, 5, 4):
        handmade.backup(day, "ada", "bob")
    handmade.expire()


def one(handmade: HandmadeKeeper, folder: str) -> str:
    return handmade.names(folder)[0]


def move(handmade: HandmadeKeeper, name: str, target: str) -> Path:
    """What a writer's key allows: a rename, which keeps the time."""
    path = handmade.root / target
    path.parent.mkdir(parents=True, exist_ok=True)
    (handmade.root / name).rename(path)
    return path


def uploads(found: tuple[Item, ...]) -> list[str]:
    return [item.name for item in found]


def test_junk_under_a_records_name_keeps_no_upload(handmade: HandmadeKeeper) -> None:
    """No keeper ever believed it, so nothing can be missing because of it; an attestation would wait for the upload."""
    backups(handmade)
    handmade.put(f"snapshots/{handmade.made.generation}/20300101T000000Z-{'ab' * 32}", b"noise", days_ago=3)
    handmade.put(UPLOAD, b"cut off", days_ago=3)
    plan = handmade.plan()
    assert list(plan.left_alone) == [handmade.made.generation]
    assert uploads(plan.uploads) == [UPLOAD]
    handmade.execute(plan)
    assert UPLOAD not in handmade.files()


def test_a_copy_of_a_record_in_another_generation_keeps_no_upload(handmade: HandmadeKeeper) -> None:
    """It was believed, and still is where it belongs."""
    backups(handmade)
    record = one(handmade, "snapshots")
    copy = f"snapshots/{OTHER}/{record.rpartition('/')[2]}"
    handmade.put(copy, (handmade.root / record).read_bytes(), days_ago=3)
    handmade.put(UPLOAD, b"cut off", days_ago=3)
    assert uploads(handmade.plan().uploads) == [UPLOAD]


@pytest.mark.parametrize("generation", ["its own", "another"])
def test_junk_in_place_of_a_record_that_was_believed_keeps_what_may_be_it(
    handmade: HandmadeKeeper, generation: str
) -> None:
    backups(handmade)
    record = one(handmade, "snapshots")
    move(handmade, record, UPLOAD)
    junk = record if generation == "its own" else f"snapshots/{OTHER}/{record.rpartition('/')[2]}"
    handmade.put(junk, b"noise", days_ago=3)
    plan = handmade.plan()
    assert plan.uploads == ()
    assert len(plan.left_alone) == 1
    handmade.execute(plan)
    assert UPLOAD in handmade.files()


@pytest.mark.parametrize("holding", ["the mark of a run", "something handed in", "junk under a record's name"])
@pytest.mark.parametrize("folder", ["packs", "keyrings"])
def test_what_holds_a_generation_up_hides_nothing_that_is_missing_there(
    handmade: HandmadeKeeper, folder: str, holding: str
) -> None:
    """Marks and junk can be had by everybody who may add: behind them, too, the keeper looks what is missing."""
    backups(handmade)
    generation = handmade.made.generation
    name = one(handmade, folder)
    move(handmade, name, UPLOAD)
    run = f"{compact(handmade.clock.now())}-00000000"
    junk = {
        "the mark of a run": f"runs/{generation}/{run}",
        "something handed in": f"incoming/n1/packs+{generation}+{'ab' * 32}.pack",
        "junk under a record's name": f"snapshots/{generation}/20300101T000000Z-{'ab' * 32}",
    }
    handmade.put(junk[holding], b"x", days_ago=0)
    plan = handmade.plan()
    assert plan.uploads == ()
    assert name in plan.left_alone[generation]


PLACES = {
    "an upload": UPLOAD,
    "a pack elsewhere": f"packs/{OTHER}/{'ab' * 32}.pack",
    "a keyring elsewhere": f"keyrings/{OTHER}/{OTHER}.keyring",
    "a mark": f"runs/{OTHER}/{OTHER}",
}


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("folder", ["packs", "keyrings"])
def test_what_was_moved_is_not_cleared_away(
    handmade: HandmadeKeeper, folder: str, place: str, *, replaced: bool
) -> None:
    """Nor where junk of the same size stands in its place; and it can be put back."""
    backups(handmade)
    name = one(handmade, folder)
    data = (handmade.root / name).read_bytes()
    where = move(handmade, name, PLACES[place])
    if replaced:
        # The header is as it was: only who reads the sections sees it.
        junk = data[:-40] + os.urandom(40) if folder == "packs" else os.urandom(len(data))
        handmade.put(name, junk, days_ago=7)
    for _ in range(2):
        plan = handmade.plan()
        assert handmade.made.generation in plan.left_alone
        handmade.execute(plan)
        assert where.read_bytes() == data
    where.replace(handmade.root / name)
    assert handmade.plan().left_alone == {}


INCOMING = {
    "a pack elsewhere": f"packs/{OTHER}/{'ab' * 32}.pack",
    "an upload": UPLOAD,
    "a mark": f"runs/{OTHER}/{OTHER}",
    "the repository's document": "repository.json",
    "its own": "",
    "its own, replaced": "",
}


@pytest.mark.parametrize("place", INCOMING)
@pytest.mark.parametrize("folder", ["packs", "keyrings", "snapshots"])
def test_what_was_moved_among_what_is_handed_in_is_not_removed(
    handmade: HandmadeKeeper, folder: str, place: str
) -> None:
    """Who hands in to a keeper, and may rename in its folders, too, has nothing refused that is missing elsewhere."""
    backups(handmade)
    name = one(handmade, folder)
    data = (handmade.root / name).read_bytes()
    where = move(handmade, name, f"incoming/n1/{(INCOMING[place] or name).replace('/', '+')}")
    if place == "its own, replaced":
        handmade.put(name, data[:-40] + os.urandom(40), days_ago=7)
    for _ in range(2):
        done = ingest(handmade.keeper, "disk")
        kept = where if where.exists() else handmade.root / name
        assert kept.read_bytes() == data
        if kept == where:
            assert name.rpartition("/")[2] in done.refused[ObjectName(str(where.relative_to(handmade.root)))]
    kept.replace(handmade.root / name)
    assert handmade.plan().left_alone == {}


def test_what_is_handed_in_a_second_time_goes(handmade: HandmadeKeeper) -> None:
    """Also after a purge took something out of what is in its place; nothing is missing."""
    backups(handmade)
    for folder in ("packs", "keyrings", "snapshots"):
        name = one(handmade, folder)
        handmade.put(f"incoming/n1/{name.replace('/', '+')}", (handmade.root / name).read_bytes(), days_ago=3)
    handmade.erase("ada")
    handmade.purge("ada")
    done = ingest(handmade.keeper, "disk")
    assert (done.dropped, done.refused, handmade.names("incoming")) == (3, {}, [])


DOCUMENTS = {"report": "reports/20260101T000000Z-00000000.json", "attestation": "attestations/{sha256}.json"}
DOCUMENT_PLACES = {
    **{place: name for place, name in PLACES.items() if place != "a keyring elsewhere"},
    "something handed in": f"incoming/n1/packs+{OTHER}+{'ab' * 32}.pack",
}


@pytest.mark.parametrize(
    ("kind", "place", "replaced"),
    [
        *(("report", place, False) for place in DOCUMENT_PLACES),
        ("report", "an upload", True),
        ("attestation", "an upload", False),
    ],
)
def test_a_document_that_the_ledger_lists_is_not_cleared_away(
    handmade: HandmadeKeeper, kind: str, place: str, replaced: bool
) -> None:
    """Nobody but a keeper makes one, and none is made twice; the message says where it belongs."""
    backups(handmade)
    data = b'{"kind":"' + kind.encode() + b'","said":"' + b"x" * 300 + b'"}\n{}\n'
    sha256 = hashlib.sha256(data).hexdigest()
    name = DOCUMENTS[kind].format(sha256=sha256)
    drilled = Drilled(drill="20260101T000000Z-00000000", report=sha256, verdict="pass")
    attested = Attested(**handmade.incarnation("ada")._asdict(), attestation=sha256)
    handmade.keeper.book.append(lambda _: [drilled if kind == "report" else attested])
    where = DOCUMENT_PLACES[place]
    handmade.put(where, data, days_ago=4)
    if replaced:
        handmade.put(name, data.replace(b"x", b"y"), days_ago=4)
    for _ in range(2):
        plan = handmade.plan()
        handmade.execute(plan)
        told = {**plan.moved, **ingest(handmade.keeper, "disk").refused}
        assert name in told[ObjectName(where)]
        assert (handmade.root / where).read_bytes() == data
    handmade.put(name, data, days_ago=4)
    handmade.execute(handmade.plan())
    ingest(handmade.keeper, "disk")
    assert not (handmade.root / where).exists()


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("place", ["ledger", "repository.json"])
def test_a_document_of_the_region_that_is_moved_after_the_look_is_not_cleared_away(
    handmade: HandmadeKeeper, place: str, replaced: bool
) -> None:
    """Before it every keeper stops for what is missing; in the middle of a run it goes on by what it knows."""
    backups(handmade)
    handmade.erase("ada")
    handmade.put(UPLOAD, b"cut off", days_ago=3)
    plan = handmade.plan()
    name = place if place == "repository.json" else one(handmade, place)
    data = (handmade.root / name).read_bytes()
    moved = False

    def before(method: str, called: str) -> None:
        nonlocal moved
        if called == UPLOAD and method == "get" and not moved:
            moved = True
            move(handmade, name, UPLOAD)
            if replaced:
                handmade.put(name, data[:-2] + b"x\n", days_ago=3)

    handmade.store.before = before
    handmade.execute(plan)
    assert moved
    assert (handmade.root / UPLOAD).read_bytes() == data


def test_what_a_false_record_needs_is_named_with_the_record_and_the_way_out(handmade: HandmadeKeeper) -> None:
    """Signed with a stolen key, it names packs that never were: leftovers stay, until a person says that it is false,
    or until it is as old as no snapshot may be.
    """
    backups(handmade)
    true = handmade.repository.record(handmade.repository.snapshots()[-1])
    with handmade.dated(4.5):
        lie = msgspec.structs.replace(
            true, packs=[("ab" * 32, [0, 1], [])], exported=stamp(handmade.made.at), published=stamp(handmade.made.at)
        )
        name, document = signed_record(lie, handmade.made.signer)
        handmade.repository.put_record(lie, document)
    handmade.put(UPLOAD, b"cut off", days_ago=3)
    plan = handmade.plan()
    assert (plan.uploads, uploads(plan.waiting), plan.lacking) == ((), [UPLOAD], {true.generation})
    said = "\n".join(_expired_lines("be", plan, None))
    assert f"packs/{true.generation}/{'ab' * 32}.pack' is missing, and snapshot '{name}' names it" in said
    assert "`backupd expire be --false SNAPSHOT`" in said
    assert "1 leftover" in said
    handmade.clock.by = POLICY.max_age - 4 * DAY
    aged = handmade.plan()
    assert name in aged.expiring
    assert (uploads(aged.uploads), aged.lacking) == ([UPLOAD], set())


def test_a_keyring_with_fewer_lines_in_its_place_is_not_taken_for_it(handmade: HandmadeKeeper) -> None:
    """Lines are no part of what is signed; a purge alone explains that one is missing."""
    backups(handmade)
    name = one(handmade, "keyrings")
    lines = (handmade.root / name).read_bytes().splitlines(keepends=True)
    where = move(handmade, name, UPLOAD)
    handmade.put(name, b"".join(lines[:-1]), days_ago=7)
    handmade.execute(handmade.plan())
    assert where.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("folder", ["packs", "keyrings"])
def test_a_second_copy_goes(handmade: HandmadeKeeper, folder: str) -> None:
    """A cut off upload of what came a second time; also after a purge took something out of what is in its place."""
    backups(handmade)
    name = one(handmade, folder)
    handmade.put(UPLOAD, (handmade.root / name).read_bytes(), days_ago=3)
    handmade.erase("ada")
    handmade.purge("ada")
    plan = handmade.plan()
    assert (plan.left_alone, uploads(plan.uploads)) == ({}, [UPLOAD])


@pytest.mark.parametrize("kind", [None, "lease", "ledger"])
@pytest.mark.parametrize("folder", ["packs", "keyrings", "snapshots"])
def test_what_stands_where_keepers_clear_is_copied_aside(
    handmade: HandmadeKeeper, folder: str, kind: str | None
) -> None:
    """A rename to the number of a lease, or over a mark that ran out, would otherwise be all it takes."""
    backups(handmade)
    name = one(handmade, folder)
    data = (handmade.root / name).read_bytes()
    squatted = ObjectName("leases/0000000099.json")
    move(handmade, name, squatted)
    clear_place(handmade.store, squatted, kind)
    files = handmade.files()
    assert squatted not in files
    (kept,) = [found for found in files if found.startswith("tmp/")]
    assert (handmade.root / kept).read_bytes() == data
    assert hashlib.sha256(data).hexdigest().startswith(kept.removeprefix("tmp/"))


@pytest.mark.parametrize("junk", [b"", b"noise", b'{"kind":"lease"}\n'])
def test_what_is_nothing_of_ours_leaves_no_copy(handmade: HandmadeKeeper, junk: bytes) -> None:
    name = ObjectName("leases/0000000099.json")
    handmade.put(name, junk, days_ago=0)
    clear_place(handmade.store, name, "lease")
    clear_place(handmade.store, name, "lease")
    assert not [found for found in handmade.files() if found.startswith(("tmp/", "leases/"))]


@pytest.mark.parametrize("folder", ["packs", "keyrings", "snapshots"])
def test_what_was_moved_to_the_ballasts_name_is_not_given_up(handmade: HandmadeKeeper, folder: str) -> None:
    backups(handmade)
    moved = move(handmade, one(handmade, folder), BALLAST)
    assert not BallastedStore(handmade.store)._give_up()
    assert moved.exists()
    moved.write_bytes(b"random")
    assert BallastedStore(handmade.store)._give_up()
    assert not moved.exists()


@pytest.mark.parametrize("whose", ["a keeper's", "a keyring's"])
def test_an_old_mark_that_is_a_pack_is_copied_aside(handmade: HandmadeKeeper, whose: str) -> None:
    """Who takes over a mark that ran out removes it: a rename keeps the time of what was moved there."""
    backups(handmade)
    generation = handmade.made.generation
    name, keyring = one(handmade, "packs"), ObjectName(one(handmade, "keyrings"))
    data = (handmade.root / name).read_bytes()
    if whose == "a keeper's":
        move(handmade, name, f"runs/{generation}/keeper")
        with removal_marked(handmade.store, generation, "disk", handmade.clock):
            pass
    else:
        move(handmade, name, f"runs/{generation}/{keyring.rpartition('/')[2]}")
        with rewrite_marked(handmade.store, keyring, "somebody", handmade.clock):
            pass
    assert not handmade.names("runs")
    (kept,) = handmade.names("tmp")
    assert (handmade.root / kept).read_bytes() == data


@pytest.mark.parametrize("folder", ["packs", "keyrings"])
def test_what_is_moved_there_while_a_mark_or_a_lease_is_held_is_copied_aside(
    handmade: HandmadeKeeper, folder: str
) -> None:
    """Who put it removes it at the end, or at the next renewal: what is there by then may be something else."""
    backups(handmade)
    names = handmade.names(folder)[:3]
    held = [(handmade.root / name).read_bytes() for name in names]
    generation, keyring = handmade.made.generation, ObjectName(f"keyrings/{OTHER}/{OTHER}.keyring")
    with removal_marked(handmade.store, generation, "disk", handmade.clock):
        move(handmade, names[0], f"runs/{generation}/keeper")
    with rewrite_marked(handmade.store, keyring, "somebody", handmade.clock):
        move(handmade, names[1], f"runs/{OTHER}/{OTHER}.keyring")
    keeper = handmade.keeper
    trusted = frozenset({keeper.signer.public})
    claimant = Claimant(keeper.region, keeper.repository, "one", keeper.signer, trusted, SystemClock(), os.urandom)
    lease = Lease(handmade.store, claimant)
    lease.take()
    move(handmade, names[2], one(handmade, "leases"))
    lease.renew()
    assert not handmade.names("runs")
    kept = [(handmade.root / name).read_bytes() for name in handmade.names("tmp")]
    assert sorted(kept) == sorted(held)


@pytest.mark.parametrize("folder", ["packs", "keyrings", "snapshots"])
@pytest.mark.parametrize("place", ["a pack that goes", "a record that goes", "an upload"])
def test_what_is_moved_there_after_the_look_is_not_removed(handmade: HandmadeKeeper, folder: str, place: str) -> None:
    """A keeper that has a lot to remove takes its time: it looks again right before each removal."""
    backups(handmade)
    name = one(handmade, folder)
    gone = handmade.backup(11, "eve") if place == "a record that goes" else ""
    handmade.put(UPLOAD, b"cut off", days_ago=3)
    handmade.put(f"packs/{OTHER}/{'ab' * 32}.pack", b"noise", days_ago=3)
    plan = handmade.plan()
    target = {
        "a pack that goes": f"packs/{OTHER}/{'ab' * 32}.pack",
        "a record that goes": next((one for one in handmade.names("snapshots") if gone and one.endswith(gone)), ""),
        "an upload": UPLOAD,
    }[place]
    assert target
    data = (handmade.root / name).read_bytes()
    move(handmade, name, target)
    handmade.execute(plan)
    assert (handmade.root / target).read_bytes() == data
    assert any(name in event.message for event in handmade.trace.seen if isinstance(event, Warned))
