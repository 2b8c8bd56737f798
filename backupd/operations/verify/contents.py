"""Compare, with an identity, the rows of parts with what their manifests say of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import msgspec

from backupd.errors import DamageError
from backupd.model.ids import GenerationId, Pseudonym
from backupd.model.manifest import FileEntry, SegmentEntry, TableEntry
from backupd.planning.verify import ContainerKey
from backupd.repository.blocks import Blocks
from backupd.repository.containers import ContainerCache, ContainerRef
from backupd.repository.content import Content, ContentReader, file_content, table_content
from backupd.repository.keys import SecretKeys
from backupd.repository.parts import read_entries
from backupd.repository.repository import Repository
from backupd.seal.container_format import ContainerContext


class ContentChecker:
    """Checks the content of one generation's parts. A context manager, for one thread.

    A table that one segment's parts hold unchanged is read once: the same runs and the same digests are the same rows.
    """

    def __init__(self, repository: Repository, generation: GenerationId, keys: SecretKeys, threads: int) -> None:
        self._repository = repository.info().repository
        self._generation = generation
        self._keys = keys
        self._containers = ContainerCache(repository.store, lambda segment: keys[segment].secret)
        self._blocks = Blocks(threads=threads)
        self._reader = ContentReader(self._containers, self._blocks)
        self._segment: Pseudonym | None = None
        self._seen: set[bytes] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.close()

    def check(self, key: ContainerKey, size: int) -> tuple[int, int]:
        """Compare all content of a part with its manifest.

        Returns the rows and bytes of COPY text that the manifest lists. Parts are best given segment by segment. Raises
        DamageError naming the object and its segment.
        """
        if key.segment != self._segment:
            self._segment = key.segment
            self._seen.clear()
        part = ContainerRef(ContainerContext(self._repository, self._generation, key.segment), key.sha256, size)
        rows = total = 0
        wanted: list[Content] = []
        for entry in read_entries(self._containers.open(part).reader):
            if isinstance(entry, SegmentEntry) and entry.name != self._keys[key.segment].name:
                raise DamageError(f"part '{key.sha256}' of segment {key.segment} names another segment than its key")
            if isinstance(entry, TableEntry):
                rows, total = rows + entry.rows, total + entry.bytes
                wanted.append(table_content(part, entry))
            elif isinstance(entry, FileEntry):
                wanted.append(file_content(part, entry))
        for _ in self._reader.read((None, content) for content in self._unread(part, wanted)):
            pass
        return rows, total

    def _unread(self, part: ContainerRef, wanted: list[Content]) -> Iterator[Content]:
        names = [part.sha256, *(sha256 for sha256, _ in self._containers.open(part).reader.packs)]
        for content in wanted:
            runs = [names[at] if place % 3 == 0 else at for place, at in enumerate(content.runs)]
            digest = hashlib.sha256(msgspec.json.encode([runs, content.checks])).digest()
            if digest not in self._seen:
                yield content
                self._seen.add(digest)
