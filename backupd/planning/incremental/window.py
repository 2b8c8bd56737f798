"""Find the part of the WAL in which everything stands that may have changed since the last backup, or why it cannot be.

A row appears by the commit of its transaction, and no block changes with that. So changes are looked for from a place
in the WAL before which only transactions wrote that had ended when the last snapshot was exported.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from backupd.planning.incremental.facts import Base, Look, Reason, Summary, WalPair, Window

_MOST_PAIRS = 64


def find_window(base: Base | None, look: Look) -> Window | Reason:
    """Return the window between a base and a look, or the reason why everything has to be read."""
    if base is None:
        return Reason.NOTHING_REMEMBERED
    if base.server != look.server:
        return Reason.ANOTHER_SERVER
    own = [summary for summary in look.summaries if summary.timeline == look.server.timeline]
    start = _start(base)
    if look.lsn < base.lsn or look.oldest < base.oldest or all(one.end != base.summarized for one in own):
        return Reason.WENT_BACK
    if start is None:
        return Reason.LONG_TRANSACTION
    covering = _covering(own, start, look.lsn)
    return Reason.GAP if covering is None else Window(start, look.lsn, tuple(covering))


def next_base(base: Base | None, look: Look) -> Base | Reason:
    """Return the base of the extents that are remembered from this run on, or why none can be.

    What the exported snapshot shows has to be on the server's disk: a crash could take it back otherwise.
    """
    ends = [summary.end for summary in look.summaries if summary.timeline == look.server.timeline]
    if look.durable < look.lsn or max(ends, default=0) < look.lsn:
        return Reason.SLOW_SUMMARIES
    earlier = base.pairs if base is not None and base.server == look.server and base.lsn <= look.lsn else ()
    pairs = _kept({*earlier, *look.pairs}, look.oldest)
    return Base(look.server, look.oldest, look.lsn, max(ends), pairs)


def _start(base: Base) -> int | None:
    """Return the last place before which no transaction wrote that was running at the base, or was not begun yet."""
    return max((pair.lsn for pair in base.pairs if pair.next_xid <= base.oldest), default=None)


def _covering(summaries: Iterable[Summary], start: int, end: int) -> list[Summary] | None:
    """Return the summaries that cover a part of the WAL; None when there is a gap."""
    wanted = sorted(summary for summary in summaries if summary.end > start and summary.start < end)
    reached = start
    for summary in wanted:
        if summary.start > reached:
            return None
        reached = max(reached, summary.end)
    return wanted if reached >= end else None


def _kept(pairs: Iterable[WalPair], oldest: int) -> tuple[WalPair, ...]:
    """Return the pairs that this base or a later one may need: the oldest running transaction only gets younger."""
    found = sorted(pairs)
    best = max((place for place, pair in enumerate(found) if pair.next_xid <= oldest), default=0)
    return tuple(_thinned(found[best:]))


def _thinned(pairs: Sequence[WalPair]) -> Sequence[WalPair]:
    """Drop every second pair but the first and the newest, until there are few enough."""
    while len(pairs) > _MOST_PAIRS:
        half = len(pairs) // 2
        pairs = [pairs[0], *pairs[1:half:2], *pairs[half:]]
    return pairs
