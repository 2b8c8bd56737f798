"""The progress of backup runs as the node's index holds it: keyrings relied on, records begun and published.

It also holds up to which entry of the ledger the index has applied removals.
"""

from __future__ import annotations

from backupd.model.ids import GenerationId, RunId, SnapshotName
from backupd.repository.state.index_file import IndexFile


class RunState:
    """Keyrings, records and ledger position of one index. Safe for several threads."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def published_keyrings(self) -> set[RunId]:
        """Return the keyrings of this generation on which packs rely."""
        return {RunId(run) for (run,) in self._file.rows("SELECT run FROM keyrings")}

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

    def knows_tenant_key(self, tag: bytes) -> bool:
        """Check whether a tenant key, by its keyed tag, was compared with the repository in this generation."""
        return self._file.row("SELECT 1 FROM tenant_keys WHERE tag = ?", tag) is not None

    def note_tenant_key(self, tag: bytes) -> None:
        """Note that a tenant key is the repository's, as far as there was anything to compare it with."""
        self._file.write("INSERT OR IGNORE INTO tenant_keys VALUES (?)", tag)

    def ledger_seq(self) -> int:
        """Return the number of the last ledger entry whose removals the index has applied; 0 when there is none."""
        row = self._file.row("SELECT max(seq) FROM ledger")
        return 0 if row is None or row[0] is None else int(row[0])

    def set_ledger_seq(self, seq: int) -> None:
        """Note that the index has applied what ledger entries up to number `seq` removed."""
        with self._file.transaction():
            self._file.write("DELETE FROM ledger")
            self._file.write("INSERT INTO ledger VALUES (?)", seq)
