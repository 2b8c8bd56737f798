"""The ledger answers what a rekeying allows, and which absences a copy explains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backupd.model.ids import ClassTag, Fingerprint, GenerationId, RegionName, RepositoryId, SnapshotName
from backupd.model.ledger import ClassExpired, ExpiryBegan, LedgerEntry, Reduced, RekeyBegan, Rekeyed
from backupd.model.text import stamp
from backupd.planning.ledger_facts import Copies, Explained, explain_copies, rekeyed_to, standing_recipients

START = datetime(2030, 1, 1, tzinfo=UTC)
OLD, NEW = Fingerprint("0" * 32), Fingerprint("1" * 32)
GENERATION, OTHER = GenerationId("20300101T000000Z-00000000"), GenerationId("20300201T000000Z-00000000")
A, B, C, D = (SnapshotName(f"2030010{number}T000000Z-" + "0" * 64) for number in range(1, 5))
TAG = ClassTag("c" * 16)


def entries(*events: object) -> list[LedgerEntry]:
    """One a day."""
    return [
        LedgerEntry(
            repository=RepositoryId("0" * 32),
            region=RegionName("be"),
            seq=number,
            previous=None,
            at=stamp(START + timedelta(days=number)),
            events=[event],
        )
        for number, event in enumerate(events, start=1)
    ]


def test_a_rekeying_that_began_allows_and_one_that_ended_requires() -> None:
    """On its own store only; a later beginning allows more."""
    began, done = RekeyBegan(store="disk", recipients=[OLD]), Rekeyed(store="disk", recipients=[OLD], keyrings=1)
    later = RekeyBegan(store="disk", recipients=[NEW])
    assert rekeyed_to(entries(began, later), "disk") == [{OLD}, {NEW}]
    assert standing_recipients(entries(began), "disk") is None
    assert standing_recipients(entries(began, done), "cellar") is None
    standing = standing_recipients(entries(began, done, later), "disk")
    assert standing is not None
    assert (standing.at, standing.allowed) == (START + timedelta(days=2), ({OLD}, {NEW}))


def test_only_what_will_be_missing_is_explained() -> None:
    """Of records that expired, those a copy calls the one before it, unless they are there or come along."""
    here = Explained(expired=frozenset({A, B, D}))
    copies = Copies(GENERATION, {C: B, D: A}, frozenset())
    assert explain_copies("cellar", copies, here, Explained()) == [ExpiryBegan(store="cellar", snapshots=[A, B])]
    there = Explained(expired=frozenset({A}))
    assert explain_copies("cellar", copies, here, there) == [ExpiryBegan(store="cellar", snapshots=[B])]
    assert explain_copies("cellar", Copies(GENERATION, {C: B}, {B}), here, Explained()) == []
    assert explain_copies("cellar", Copies(GENERATION, {B: A, A: None}), here, Explained()) == []


def test_ages_and_reductions_come_along() -> None:
    """Those of the generation and of the records copied, and no younger age than is told already."""
    here = Explained(aged={(GENERATION, TAG): START, (OTHER, TAG): START}, reduced={A: C, B: D})
    copies = Copies(GENERATION, {C: None})
    aged = ClassExpired(store="cellar", generation=GENERATION, class_tag=TAG, before=stamp(START))
    assert explain_copies("cellar", copies, here, Explained()) == [aged, Reduced(store="cellar", snapshot=A, into=C)]
    there = Explained(aged={(GENERATION, TAG): START + timedelta(days=1)}, reduced={A: C})
    assert explain_copies("cellar", copies, here, there) == []
