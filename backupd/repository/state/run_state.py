"""The progress of backup runs as the node's index holds it: which keyrings and records a run began and published.

It also holds up to which entry of the ledger the index has applied removals.
"""

from __future__ import annotations

from collections.abc import Callable

from backupd.model.ids import GenerationId, RunId, SnapshotName
from backupd.repository.state.index_file import IndexFile


class RunState:
    """Keyrings, records and ledger position of one index. Safe for several threads."""

    def __init__(self, file: IndexFile, write_pending: Callable[[], None]) -> None:
        """`write_pending` writes the segments and keyring entries that the index still holds in memory."""
        self._file = file
        self._write_pending = write_pending

    def begin_keyring(self, run: RunId, head: bytes) -> None:
        """Note the head of the keyring that `run` is going to fill and publish."""
        self._file.write("INSERT INTO keyrings VALUES (?, ?, 0)", run, head)

    def unpublished_keyrings(self) -> list[tuple[RunId, bytes, list[bytes]]]:
        """List the runs whose keyring is not on the store yet, each with the keyring's head and its entries in order.

        Runs without any entry are left out.
        """
        with self._file.lock:
            self._write_pending()
            found = []
            for run, head in self._file.rows("SELECT run, head FROM keyrings WHERE published = 0 ORDER BY run"):
                rows = self._file.rows("SELECT body FROM entries WHERE run = ? ORDER BY place", run)
                if rows:
                    found.append((run, head, [body for (body,) in rows]))
        return found

    def published_keyrings(self) -> set[RunId]:
        """Return the runs whose keyrings of this generation are on the store."""
        return {RunId(run) for (run,) in self._file.rows("SELECT run FROM keyrings WHERE published")}

    def keyring_published(self, run: RunId) -> None:
        """Note that a keyring is on the store, and remove its entries here.

        A purge removes keys from the store only: it would not reach a copy left on a node.
        """
        with self._file.transaction():
            self._file.write("UPDATE keyrings SET published = 1, head = x'' WHERE run = ?", run)
            self._file.write("DELETE FROM entries WHERE run = ?", run)

    def last_records(self) -> list[tuple[SnapshotName, GenerationId, bool]]:
        """List records from the newest back to the last that was published, each with whether it was published.

        All records are listed when none is known to be published.
        """
        rows = self._file.rows(
            "SELECT name, generation, published FROM records WHERE place >= "
            "(SELECT coalesce(max(place), 0) FROM records WHERE published) ORDER BY place DESC"
        )
        return [(SnapshotName(name), GenerationId(generation), bool(published)) for name, generation, published in rows]

    def records_of(self, generation: GenerationId) -> set[SnapshotName]:
        """Return the records of a generation that are known to have been published."""
        rows = self._file.rows("SELECT name FROM records WHERE published AND generation = ?", generation)
        return {SnapshotName(name) for (name,) in rows}

    def record_names(self) -> list[SnapshotName]:
        """List every record that was published or about to be, newest first."""
        return [SnapshotName(name) for (name,) in self._file.rows("SELECT name FROM records ORDER BY place DESC")]

    def begin_record(self, name: SnapshotName, generation: GenerationId) -> None:
        """Note that a record is about to be published; only the store knows whether it then was."""
        self._file.write(
            "INSERT OR IGNORE INTO records SELECT ?, ?, coalesce(max(place), 0) + 1, 0 FROM records", name, generation
        )

    def record_published(self, name: SnapshotName) -> None:
        """Note that a record is on the store."""
        self._file.write("UPDATE records SET published = 1 WHERE name = ?", name)

    def ledger_seq(self) -> int:
        """Return the number of the last ledger entry whose removals the index has applied; 0 when there is none."""
        row = self._file.row("SELECT max(seq) FROM ledger")
        return 0 if row is None or row[0] is None else int(row[0])

    def set_ledger_seq(self, seq: int) -> None:
        """Note that the index has applied what ledger entries up to number `seq` removed."""
        with self._file.transaction():
            self._file.write("DELETE FROM ledger")
            self._file.write("INSERT INTO ledger VALUES (?)", seq)
