"""The ledger answers what a rekeying allows, and which absences a copy explains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backupd.model.ids import (
    ClassTag,
    Fingerprint,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    SnapshotName,
    TenantId,
)
from backupd.model.ledger import (
    Absent,
    Attested,
    ClassExpired,
    ExpiryBegan,
    LedgerEntry,
    PurgeBegan,
    Reduced,
    RekeyBegan,
    Rekeyed,
    Replicated,
    Verified,
)
from backupd.model.text import stamp
from backupd.planning.ledger_facts import (
    Copies,
    Explained,
    absent_on,
    copied_to,
    expired_on,
    explain_absences,
    explain_copies,
    names_store,
    proven_on,
    rekeyed_to,
    standing_recipients,
)

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
    assert rekeyed_to(entries(began, done, later), "disk") == [{OLD}, {NEW}]
    assert rekeyed_to(entries(began, done, later), "cellar") == []
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
    for days in (0, 1):
        there = Explained(aged={(GENERATION, TAG): START + timedelta(days=days)}, reduced={A: C})
        assert explain_copies("cellar", copies, here, there) == []


ONE, TWO, THREE = ((GENERATION, Pseudonym(f"{number:032x}")) for number in (1, 2, 3))


def purge(tenant: str, *segments: tuple[GenerationId, Pseudonym], number: int = 1) -> PurgeBegan:
    whose = {"tenant": TenantId(tenant * 32), "incarnation": number, "scope": ""}
    return PurgeBegan(**whose, segments=list(segments), stores=["disk", "cellar"])


def absent(tenant: str, store: str, number: int = 1) -> Absent:
    whose = {"tenant": TenantId(tenant * 32), "incarnation": number, "scope": ""}
    return Absent(**whose, store=store, snapshots=[])


def test_a_purge_explains_its_segments_and_no_others() -> None:
    """In their own generation, on every store."""
    explained = explain_absences(entries(purge("a", ONE), purge("b", TWO)), "cellar")
    assert [explained.is_purged(*one) for one in (ONE, TWO, THREE)] == [True, True, False]
    assert not explained.is_purged(OTHER, ONE[1])
    assert (explained.purged_in(GENERATION), explained.purged_in(OTHER)) == ({ONE[1], TWO[1]}, frozenset())


def aged(days: int, store: str = "disk", generation: GenerationId = GENERATION) -> ClassExpired:
    return ClassExpired(store=store, generation=generation, class_tag=TAG, before=stamp(START + timedelta(days=days)))


def test_an_expiry_explains_records_and_ages_on_its_own_store() -> None:
    """Of a class that expired more than once, the youngest age counts, whichever was told first."""
    events = entries(ExpiryBegan(store="disk", snapshots=[A, B]), aged(3), aged(2), aged(9, "attic"), aged(1, "attic"))
    here = explain_absences(events, "disk")
    assert (here.expired, here.aged) == ({A, B}, {(GENERATION, TAG): START + timedelta(days=3)})
    assert explain_absences(events, None).aged == {(GENERATION, TAG): START + timedelta(days=9)}
    assert explain_absences(events, "cellar") == Explained()
    until = START + timedelta(days=3)
    assert here.is_aged(GENERATION, TAG, until - timedelta(seconds=1))
    assert not here.is_aged(GENERATION, TAG, until)
    assert not here.is_aged(OTHER, TAG, START)
    assert not here.is_aged(GENERATION, None, START)


def test_what_befell_snapshots_is_known_for_each_store() -> None:
    """Which were read there, may be missing there, and came from where; other events of the store say nothing of it."""
    told = entries(
        Verified(store="disk", snapshots=[A, B]),
        ExpiryBegan(store="disk", snapshots=[C]),
        Replicated(store="disk", origin="attic", snapshots=[D], objects=1, bytes=1),
        Verified(store="attic", snapshots=[D]),
    )
    assert (proven_on(told, "disk"), proven_on(told, "attic"), proven_on(told, "cellar")) == ({A, B}, {D}, set())
    assert (expired_on(told, "disk"), expired_on(told, "attic")) == ({C}, set())
    assert (copied_to(told, "disk"), copied_to(told, "attic")) == ({D: "attic"}, {})


def test_a_reduction_says_where_a_part_is_kept_on_its_own_store() -> None:
    """Elsewhere the snapshot is there, or expired, for itself."""
    events = entries(Reduced(store="disk", snapshot=A, into=B))
    assert explain_absences(events, "disk").reduced == explain_absences(events, None).reduced == {A: B}
    assert explain_absences(events, "cellar").reduced == {}


def test_absent_is_what_was_looked_for_on_that_store_since() -> None:
    """Of the incarnation that it was looked for; and no purge that began at the instant, or later."""
    told = entries(purge("a", ONE), absent("a", "disk"), purge("a", TWO), purge("b", THREE), absent("b", "disk", 2))
    late = START + timedelta(days=9)
    assert absent_on(told, "disk", late) == {ONE}
    assert absent_on(told, "cellar", late) == frozenset()
    assert absent_on([*told, *entries(absent("a", "disk"))], "disk", late) == {ONE, TWO}
    assert absent_on([*told, *entries(absent("a", "disk"))], "disk", START + timedelta(days=3)) == {ONE}
    assert absent_on(told, "disk", START + timedelta(days=1)) == frozenset()
    others = Verified(store="disk", snapshots=[A]), Reduced(store="disk", snapshot=A, into=B)
    assert absent_on([*entries(*others), *told], "disk", late) == {ONE}


def test_what_was_attested_is_absent_everywhere_from_that_instant() -> None:
    """No run was left that could add to it; what turned up later is not part of it."""
    attested = Attested(tenant=TenantId("a" * 32), incarnation=1, scope="", attestation="0" * 64)
    told = entries(purge("a", ONE), purge("b", THREE), attested, purge("a", TWO))
    for store in ("disk", "cellar"):
        assert absent_on(told, store, START) == {ONE}


def test_a_store_is_known_that_any_event_names() -> None:
    """As its own, or as one of several."""
    told = entries(purge("a", ONE), ExpiryBegan(store="attic", snapshots=[A]))
    assert [names_store(told, store) for store in ("disk", "cellar", "attic", "loft")] == [True, True, True, False]
    assert not names_store([], "disk")
