"""An incarnation's segments: found by its tags in keyrings, listed in the ledger when its purge begins, and bounded
when more of them turn up afterwards.

A thief of a node has the tenant key, and can list any number of new segments of a tenant who left: nobody else's, but
more than an entry of the ledger holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from backupd.errors import RefusedError
from backupd.model.ledger import WHOLE, Event, PurgeBegan, SegmentRef
from backupd.model.text import counted
from backupd.operations.keeper.guards import check_number
from backupd.operations.keeper.types import Keeper
from backupd.planning.incarnations import Incarnation, IncarnationKey
from backupd.repository.state.keyring_cache import CachedSegment, KeyringCache

MOST_LISTED = 50_000
"""Segments that one entry of the ledger lists at most; purges of more begin with several entries."""
_FRAME = 4
"""As many segments take the room of what else an event of them says."""
MOST_GROWTH = 100
"""Segments of an incarnation whose purge has begun that are added without a confirmation: runs under way at that time
add one for each database and data class."""


def find_segments(keeper: Keeper, cache: KeyringCache, key: IncarnationKey) -> Iterator[SegmentRef]:
    """Yield segments with the incarnation's tags, also those that left the store and may be in its snapshots."""
    for generation in sorted({*cache.generations(), *cache.gone_generations()}):
        own = {keeper.tags.class_tag(generation, name) for name in keeper.rules.own_clocks}
        wanted = keeper.tags.class_tag(generation, key.scope)
        tag = keeper.tags.tenant_tag(generation, key.tenant, key.incarnation)
        for listed in (*cache.of_tenant(generation, tag), *cache.gone_of_tenant(generation, tag)):
            if listed.data_class == wanted if key.scope != WHOLE else listed.data_class not in own:
                yield generation, listed.pseudonym


def check_growth(incarnation: Incarnation, found: set[SegmentRef], confirmed: int | None) -> list[RefusedError]:
    """Return an error when more turned up of an incarnation whose purge has begun than late runs add, unless confirmed.

    It must hold nothing up that began: a thief of a node can list more each day.
    """
    more = len(found - incarnation.purge.segments) if incarnation.purge is not None else 0
    try:
        check_number(more, MOST_GROWTH, confirmed, f"new segments of tenant {incarnation.key.tenant}, purged before,")
    except RefusedError as error:
        return [error]
    return []


def beginnings(found: Iterable[tuple[Incarnation, set[SegmentRef]]], stores: set[str]) -> list[Event]:
    """Return the events that list each incarnation's next segments as purged; none when the ledger lists all of them.

    They are as many as one entry holds.
    """
    events, room = list[Event](), MOST_LISTED
    for incarnation, segments in found:
        new, named = segments, stores
        if incarnation.purge is not None:
            new, named = segments - incarnation.purge.segments, stores | incarnation.purge.stores
            if not new:
                continue
        if room <= 0:
            break
        events.append(PurgeBegan(**incarnation.key._asdict(), segments=sorted(new)[:room], stores=sorted(named)))
        room -= len(new) + _FRAME
    return events


def forgeries(store: str, listed: Iterable[CachedSegment]) -> Iterator[str]:
    """Yield a sentence about each keyring with listings whose tags are not those of the segments beside them."""
    for keyring, number in sorted(Counter(one.keyring for one in listed).items()):
        yield (
            f"'{keyring}' on store '{store}' lists {counted(number, 'segment')} beside tags not their own: written "
            "under another tenant key, or forged"
        )
