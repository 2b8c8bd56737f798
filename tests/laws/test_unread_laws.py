"""The law of skipping, on a database in memory: what is skipped shows the same rows, whatever transactions do."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.planning.incremental.facts import (
    Base,
    Look,
    Reason,
    ServerMark,
    Summary,
    WalPair,
    Window,
)
from backupd.planning.incremental.window import find_window, next_base

SERVER = ServerMark(1, 1, "", 180000, 5)
BLOCKS = 6


@dataclass
class Database:
    """Blocks of row versions, a WAL, and transactions: as much of PostgreSQL as decides what a snapshot shows."""

    random: Random
    next_xid: int = 10
    lsn: int = 100
    running: set[int] = field(default_factory=set)
    committed: set[int] = field(default_factory=set)
    blocks: list[list[list[int]]] = field(default_factory=lambda: [[] for _ in range(BLOCKS)])
    """Of each block the versions: the transaction that made one, and the one that deleted it, or 0."""
    writes: list[tuple[int, int]] = field(default_factory=list)
    """Place in the WAL and block of each change."""
    redo: int = 100
    summaries: list[Summary] = field(default_factory=list)

    def step(self) -> None:
        self.lsn += self.random.randint(1, 3)
        choice = self.random.random()
        if choice < 0.25 or not self.running:
            self.running.add(self.next_xid)
            self.next_xid += 1
        elif choice < 0.7:
            self.write(self.random.choice(sorted(self.running)))
        elif choice < 0.95:
            xid = self.random.choice(sorted(self.running))
            self.running.remove(xid)
            if self.random.random() < 0.7:
                self.committed.add(xid)
        else:
            self.checkpoint()

    def write(self, xid: int) -> None:
        number = self.random.randrange(BLOCKS)
        alive = [version for version in self.blocks[number] if not version[1]]
        if alive and self.random.random() < 0.5:
            self.random.choice(alive)[1] = xid
        else:
            self.blocks[number].append([xid, 0])
        self.writes.append((self.lsn, number))

    def checkpoint(self) -> WalPair:
        self.lsn += 1
        self.summaries.append(Summary(1, self.redo, self.lsn))
        self.redo = self.lsn
        return WalPair(self.lsn, self.next_xid)

    def snapshot(self) -> tuple[int, list[tuple[tuple[int, int], ...]]]:
        """The oldest running transaction, and what each block shows."""
        seen = [
            tuple((made, place) for place, (made, gone) in enumerate(block)
                  if made in self.committed and gone not in self.committed)
            for block in self.blocks
        ]  # fmt: skip
        return min(self.running, default=self.next_xid), seen

    def changed(self, window: Window) -> set[int]:
        parts = [(summary.start, summary.end) for summary in window.summaries]
        return {block for lsn, block in self.writes if any(start <= lsn < end for start, end in parts)}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12))
def test_a_block_that_is_skipped_shows_what_it_showed(seed: int, backups: int) -> None:
    """Transactions of any length, with writes and ends between all steps of a backup, and backups that fail."""
    database = Database(Random(seed))  # a seed is a history
    random = database.random
    base: Base | None = None
    shown: list[tuple[tuple[int, int], ...]] = []
    for _ in range(backups):
        for _ in range(random.randrange(40)):
            database.step()
        before = [database.checkpoint()]
        for _ in range(random.randrange(6)):
            database.step()
        oldest, seen = database.snapshot()
        for _ in range(random.randrange(6)):
            database.step()
        behind = database.lsn + 1
        pair = database.checkpoint()
        for _ in range(random.randrange(6)):
            database.step()
        look = Look(SERVER, oldest, behind, pair.lsn, (*before, pair), tuple(database.summaries))
        window = find_window(base, look)
        if isinstance(window, Window):
            for block in set(range(BLOCKS)) - database.changed(window):
                assert seen[block] == shown[block]
        else:
            assert window in (Reason.NOTHING_REMEMBERED, Reason.LONG_TRANSACTION)
        following = next_base(base, look)
        assert isinstance(following, Base)
        if random.random() < 0.8:
            base, shown = following, seen
