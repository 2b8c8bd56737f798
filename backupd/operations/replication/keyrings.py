"""Keyrings from one store to another: as they are, less the lines of what was purged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.catalog.sending.marks import LONGEST_RUN
from backupd.errors import UNSOUND, DamageError, RefusedError
from backupd.model.ids import ObjectName
from backupd.model.instants import parse_stamp
from backupd.planning.deletion.rekeyed import standing_recipients
from backupd.seal.keys.opening import parse_keyring, without_lines

if TYPE_CHECKING:
    from backupd.model.ids import ClassTag, GenerationId, Pseudonym
    from backupd.operations.replication.values import Copying
    from backupd.seal.keys.opening import Keyring


class Keyrings:
    """One generation's. For one thread."""

    def __init__(self, copying: Copying, generation: GenerationId) -> None:
        self._copying = copying
        self._generation = generation
        self.keyed: set[Pseudonym] = set()
        """Segments whose key the target has, once `copy` came to its end."""

    def classes(self) -> dict[Pseudonym, ClassTag]:
        """The class tag of every segment the origin's keyrings list."""
        return {
            segment: tags.data_class
            for keyring in self._believed()
            for (segment, _), tags in zip(keyring.index, keyring.tags, strict=True)
        }

    def copy(self, needed: Collection[Pseudonym], purged: Collection[Pseudonym]) -> Iterator[int]:
        """Copy keyrings that list a segment that is needed; yields their sizes.

        One that the target has already stays as it is there. Raises RefusedError when the target's were sealed to
        others since, DamageError when it has another one under the same name.
        """
        sink = self._copying.sink
        there = {info.name for info in sink.store.list(layout.keyrings_folder(self._generation))}
        wanted = frozenset(needed)
        for keyring in self._believed():
            if wanted.isdisjoint(segment for segment, _ in keyring.index):
                continue
            where = ObjectName(keyring.where)
            standing = sink.keyring(where) if where in there else None
            if standing is None:
                standing, size = self._put(keyring, purged)
                yield size
            elif standing.index != keyring.index:
                raise DamageError(f"'{where}' on '{self._copying.target}' is another one than on the origin")
            self.keyed |= {standing.index[place][0] for place in standing.sealed}

    def _put(self, keyring: Keyring, purged: Collection[Pseudonym]) -> tuple[Keyring, int]:
        source, sink, where = self._copying.source, self._copying.sink, ObjectName(keyring.where)
        self._check_recipients(keyring)
        data = without_lines(source.read(where, "keyring"), purged, where)
        copied = parse_keyring(data, source.signers, where)
        if (copied.ids, copied.index) != (keyring.ids, keyring.index):
            raise DamageError(f"'{where}' was read twice, and was not the same", hint="The next run tries again.")
        sink.put_document(where, data)
        return copied, len(data)

    def _check_recipients(self, keyring: Keyring) -> None:
        copying = self._copying
        standing = standing_recipients(copying.keeper.book.chain.entries(), copying.target)
        if standing is None or keyring.wraps.keys() in standing.allowed:
            return
        if parse_stamp(keyring.created) <= standing.at - LONGEST_RUN:
            raise RefusedError(
                f"keyrings on '{copying.origin}' are sealed to others than those on '{copying.target}'",
                hint=f"First run `backupd key rotate {copying.keeper.region} --store {copying.origin}`.",
            )

    def _believed(self) -> Iterator[Keyring]:
        """The origin's keyrings; what one that cannot be believed has the only key of, is missing."""
        source = self._copying.source
        for name in sorted(info.name for info in source.store.list(layout.keyrings_folder(self._generation))):
            if layout.place_of(name).kind is layout.ObjectKind.KEYRING:
                try:
                    keyring = source.keyring(name)
                except UNSOUND:
                    continue
                yield keyring
