"""Each item that still stands between a purge and its attestation is named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from backupd.model.ids import TenantId
from backupd.planning.attestation import MAX_AGE_OF_OBSERVATION, PurgeEvidence, StoreObservation, open_items
from backupd.planning.incarnations import DeletionClock, IncarnationKey, Purge

T0 = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DONE = Purge(
    T0, frozenset({"disk"}), frozenset(), {"disk": T0 + HOUR}, {"disk": T0 + 2 * HOUR}, {"disk": (T0 + 3 * HOUR, ())}
)
LOOK = StoreObservation(T0 + 10 * HOUR, ("daily",), ())
NOW = T0 + 11 * HOUR


def test_what_was_all_seen_has_no_open_item() -> None:
    """Every store shredded, cleared, absent, and freshly looked at: nothing is open, to the last moment of a day."""
    assert list(open_items(DONE, ["disk"], {"disk": LOOK}, NOW)) == []
    assert list(open_items(DONE, ["disk"], {"disk": LOOK}, LOOK.at + MAX_AGE_OF_OBSERVATION)) == []


@pytest.mark.parametrize(
    ("purge", "look", "now", "item"),
    [
        (replace(DONE, shredded={}), LOOK, NOW, "the keys on store 'disk' were not seen destroyed"),
        (replace(DONE, cleared={}), LOOK, NOW, "the packs on store 'disk' were not seen without it"),
        (replace(DONE, absent={}), LOOK, NOW, "the snapshots of store 'disk' were not seen without it"),
        (DONE, replace(LOOK, still_in=("daily",)), NOW, "store 'disk' still holds something in: daily"),
        (DONE, replace(LOOK, at=T0 + HOUR), NOW, "the last look at store 'disk' was before the last removal there"),
        (
            DONE,
            LOOK,
            LOOK.at + MAX_AGE_OF_OBSERVATION + timedelta(microseconds=1),
            "the last look at store 'disk' was at 2030-01-01T10:00:00.000000Z",
        ),
        (DONE, LOOK, LOOK.at - HOUR, "the last look at store 'disk' was at 2030-01-01T10:00:00.000000Z"),
    ],
)
def test_each_missing_observation_is_named(purge: Purge, look: StoreObservation, now: datetime, item: str) -> None:
    """One thing not seen is one item, in words."""
    assert list(open_items(purge, ["disk"], {"disk": look}, now)) == [item]


def test_stores_of_then_and_now_are_asked_for() -> None:
    """Those of the purge and those configured since: each is named when nobody looked at it."""
    assert list(open_items(DONE, ["disk"], {}, NOW)) == ["store 'disk' was not looked at"]
    (gone,) = open_items(DONE, [], {"disk": LOOK}, NOW)
    assert gone.startswith("store 'disk' took part in the purge and is not configured")
    assert list(open_items(DONE, ["attic", "disk"], {"disk": LOOK}, NOW)) == ["store 'attic' was not looked at"]
    seen = list(open_items(DONE, ["attic", "disk"], {"disk": LOOK, "attic": LOOK}, NOW))
    assert seen == [
        "the keys on store 'attic' were not seen destroyed",
        "the packs on store 'attic' were not seen without it",
        "the snapshots of store 'attic' were not seen without it",
    ]


def test_a_store_is_late_that_was_seen_without_it_only_after_the_day() -> None:
    """At the instant itself it is in time."""
    seen = T0 + 3 * HOUR
    for due, late in ((seen - timedelta(microseconds=1), True), (seen, False), (T0 + 4 * HOUR, False)):
        clock = DeletionClock("unsubscribed", T0, due, T0)
        evidence = PurgeEvidence(IncarnationKey(TenantId("a" * 32), 1), clock, DONE, due, (), ())
        assert evidence.late_on("disk") is late
    with pytest.raises(KeyError):
        evidence.late_on("attic")
