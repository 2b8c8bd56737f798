"""The keyrings of one run: they take the keys that workers draw, and are published before the packs that need them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.model.ids import ClassTag, DatabaseTag, Pseudonym, RegionName, RunId, SegmentTags, TenantTag
from backupd.model.tenancy import SegmentName
from backupd.model.text import stamp
from backupd.operations.backup.generation import new_id
from backupd.seal.keyring import KeyringIds, KeyringWriter

if TYPE_CHECKING:
    from backupd.operations.backup.types import Node
    from backupd.repository.repository import Repository
    from backupd.repository.state.index import Generation
    from backupd.rows.protocol import NewKey

KEYRING_ENTRIES = 1024
"""Keys in one keyring (about 190 KB): a purge replaces those that hold one of the tenant, so they stay small."""


@dataclass(frozen=True, slots=True)
class _Unpublished:
    writer: KeyringWriter
    lock: threading.Lock = field(default_factory=threading.Lock)


class RunKeyrings:
    """The keyrings of one run of one database. `place` is for one thread, `publish` for several."""

    def __init__(
        self, repository: Repository, generation: Generation, region: RegionName, database: str, node: Node
    ) -> None:
        """Prepare keyrings for a database that is given by its real name."""
        self._repository = repository
        self._generation = generation
        self._region = region
        self._database = database
        self._node = node
        self._filling: dict[int, KeyringWriter] = {}
        self._unpublished: dict[RunId, _Unpublished] = {}

    def place(self, worker: int, keys: Sequence[NewKey]) -> list[tuple[str, int]]:
        """Seal a worker's keys into a keyring; return the keyring and the place of each.

        Workers draw keys of their own for the same segment, and a keyring lists a segment once: so each has its own.
        """
        return [self._placed(worker, key) for key in keys]

    def publish(self, keyrings: Iterable[RunId]) -> list[int]:
        """Put keyrings on the store that are not there yet; return the size of each when they are.

        Raises what the store does.
        """
        sizes: list[int] = []
        for run in keyrings:
            waiting = self._unpublished.get(run)
            if waiting is None:
                continue
            with waiting.lock:  # of this keyring alone: a slow store must not keep others, or `place`, waiting
                if run in self._unpublished:
                    created = stamp(self._node.clock.now())
                    document = waiting.writer.render(created, self._node.signer)
                    self._repository.put_keyring(waiting.writer.ids, document)
                    del self._unpublished[run]
                    sizes.append(len(document))
        return sizes

    def end(self, worker: int) -> None:
        """Add nothing more to the worker's keyring: a pack is going to need it on the store."""
        self._filling.pop(worker, None)

    def _placed(self, worker: int, key: NewKey) -> tuple[str, int]:
        writer = self._filling.get(worker)
        if writer is None or writer.entries >= KEYRING_ENTRIES:
            writer = self._filling[worker] = self._begun()
        tenant, data_class, database = key.tags
        tags = SegmentTags(TenantTag(tenant), ClassTag(data_class), DatabaseTag(database))
        name = SegmentName(self._database, key.data_class, key.tenant)
        return writer.ids.run, writer.add(Pseudonym(key.pseudonym), key.key, name, tags)

    def _begun(self) -> KeyringWriter:
        node, generation = self._node, self._generation
        run = RunId(new_id(node.clock.now(), node.random))
        ids = KeyringIds(generation.repository, self._region, generation.id, run)
        writer = KeyringWriter(ids, node.recipients, random=node.random)
        self._unpublished[run] = _Unpublished(writer)
        return writer
