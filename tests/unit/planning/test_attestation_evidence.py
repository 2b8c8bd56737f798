"""What a ledger has of an incarnation's end, and how long declared copies may live."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.model.attestation import AttestedHold, AttestedRestore, RetiredStore
from backupd.model.ids import RegionName, RepositoryId, SnapshotName, TenantId
from backupd.model.ledger import Event, Held, LedgerEntry, PurgeBegan, Released, Restored, StoreRetired, Unsubscribed
from backupd.model.text import stamp
from backupd.planning.attestation import declared_copies, living_copies, purge_evidence
from backupd.planning.incarnations import IncarnationKey, Purge

T0 = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WHO, OTHER = TenantId("ab" * 16), TenantId("cd" * 16)
KEY = IncarnationKey(WHO, 1, "")
SNAPSHOT = SnapshotName("20300101T000000Z-" + "0" * 64)


def day(number: int) -> str:
    return stamp(T0 + number * DAY)


def entries(*listed: tuple[int, list[Event]]) -> list[LedgerEntry]:
    return [
        LedgerEntry(
            repository=RepositoryId("0" * 32),
            region=RegionName("be"),
            seq=seq,
            previous=None if seq == 1 else "1" * 64,
            at=day(at),
            events=events,
        )
        for seq, (at, events) in enumerate(listed, 1)
    ]


def restored(decision: str | None = None) -> Restored:
    return Restored(snapshot=SNAPSHOT, purpose="restore", override=decision)


LEFT = Unsubscribed(tenant=WHO, incarnation=1, since=day(2), deadline=day(20), purge_by=day(15))
BEGAN = PurgeBegan(tenant=WHO, incarnation=1, segments=[], stores=["disk"])


def test_holds_restores_and_stores_are_those_that_concern_it() -> None:
    """A hold of this tenant that was not over before it left; restores since its purge began; stores given up."""
    found = purge_evidence(
        entries(
            (0, [Held(tenant=WHO, hold="CASE-0", review=day(9)), Held(tenant=OTHER, hold="CASE-9", review=day(9))]),
            (1, [Released(tenant=WHO, hold="CASE-0", due=day(2)), Held(tenant=WHO, hold="CASE-1", review=day(9))]),
            (2, [LEFT, restored()]),
            (3, [Released(tenant=WHO, hold="CASE-1", due=day(4))]),
            (5, [BEGAN, restored("D-1")]),
            (6, [StoreRetired(store="attic", decision="D-2")]),
        ),
        KEY,
    )
    assert found is not None
    assert found.holds == (AttestedHold(hold="CASE-1", since=day(1), review=day(9), released=day(3), due=day(4)),)
    assert found.restores == (AttestedRestore(seq=5, at=day(5), snapshot=SNAPSHOT, override="D-1"),)
    assert found.retired == (RetiredStore(store="attic", at=day(6), decision="D-2", purging=False),)
    assert (found.key, found.retired_but({"attic"}), found.retired_but(())) == (KEY, [], [*found.retired])


@pytest.mark.parametrize("events", [[], [LEFT]], ids=["nothing", "no purge"])
def test_of_an_incarnation_that_no_purge_ended_there_is_nothing(events: list[Event]) -> None:
    """Neither of one that the ledger does not know."""
    assert purge_evidence(entries((0, events)), KEY) is None


def test_a_declared_copy_may_live_as_long_as_one_made_before_the_last_removal() -> None:
    """To the instant; then nothing is said of it any more."""
    purge = Purge(T0, frozenset({"disk"}), frozenset(), {"disk": T0 + DAY}, {"disk": T0 + 2 * DAY}, {})
    copies = declared_copies(purge, {"tape": 30 * DAY, "replica": timedelta(0)})
    assert [(one.copy, one.kept, one.until) for one in copies] == [("replica", 0, day(2)), ("tape", 2592000, day(32))]
    said = [f"a copy 'tape' from before may live until {day(32)}"]
    assert list(living_copies(copies, T0 + 32 * DAY - timedelta(microseconds=1))) == said
    assert list(living_copies(copies, T0 + 32 * DAY)) == []
