"""Checks 1, 2 and 16: signed records and their chain; every byte the snapshot needs, authenticated; and a copy that is
damaged on purpose, which everything that reads it must notice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, DamageError
from backupd.model.documents import Record
from backupd.model.ids import ObjectName, SnapshotName
from backupd.model.report import Check, CheckName
from backupd.operations.drill.types import Findings
from backupd.parallel import in_parallel
from backupd.planning.verify import ContainerKey, Stored, broken_links
from backupd.repository import layout
from backupd.repository.container_check import ContainerChecker
from backupd.repository.keys import SecretKeys
from backupd.repository.repository import Repository
from backupd.store.base import Store
from backupd.store.forwarding import ForwardingStore

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrilledSnapshot

_THREADS = 8


def check_records(subject: DrilledSnapshot) -> Check:
    """Check that each record is signed, in its place, agrees with the ledger, and follows another."""
    findings = Findings(CheckName.RECORDS)
    repository, history = subject.repository, subject.history
    previous: dict[SnapshotName, SnapshotName | None] = {}
    for generation, name in repository.records():
        previous[name] = None
        findings.examined += 1
        try:
            record = repository.record(name, generation)
        except UNSOUND:
            findings.add("record-not-believed")
            continue
        previous[name] = record.previous
        try:
            history.chain.require(record.ledger, layout.record_name(generation, name))
        except DamageError:
            findings.add("ledger-not-the-one-seen")
    history.refresh()
    expired = history.explained.expired
    findings.add("record-missing", sum(before not in expired for _, before in broken_links(previous)))
    return findings.check()


def check_authentic(repository: Repository, record: Record, keys: SecretKeys, scratch: Path) -> tuple[Check, int, int]:
    """Check every container that the parts of `record` are or need: its hash, every tag, every chunk's id.

    Returns the check, how many containers were read, and their bytes. `scratch` takes sealed bytes while they are
    opened.
    """
    findings = Findings(CheckName.AUTHENTIC)
    containers = ContainerChecker(repository.store, record.repository, record.generation)
    chunk_key = keys.chunk_keys[record.generation]
    read = 0

    def open_one(place: tuple[ContainerKey, Stored]) -> None:
        key, stored = place
        containers.open(key, stored, keys[key.segment].secret, chunk_key, scratch)

    wanted = list(_wanted(repository, record, containers, findings))
    for (_, stored), result in in_parallel(open_one, wanted, _THREADS):
        findings.examined += 1
        read += stored.size
        try:
            result.result()
        except UNSOUND:
            findings.add("object-damaged")
    return findings.check(), findings.examined, read


def _wanted(
    repository: Repository, record: Record, containers: ContainerChecker, findings: Findings
) -> Iterator[tuple[ContainerKey, Stored]]:
    for segment, sha256, size in record.parts:
        there = repository.contents(record.generation, segment)
        if sha256 not in there or there[sha256].size != size:
            findings.add("object-missing")
            continue
        part = ContainerKey(segment, sha256), Stored(there[sha256].name, "part", size)
        yield part
        try:
            header, _ = containers.header(*part)
        except UNSOUND:
            findings.add("object-damaged")
            continue
        for pack, pack_size in header.packs:
            if pack not in there or there[pack].size != pack_size:
                findings.add("object-missing")
                continue
            name = there[pack].name
            yield ContainerKey(segment, pack), Stored(name, name.rpartition(".")[2], pack_size)


class DamagingStore(ForwardingStore):
    """A store that flips one bit of one object whenever it is fetched.

    The objects on the inner store stay as they are.
    """

    def __init__(self, inner: Store, name: ObjectName, position: int) -> None:
        super().__init__(inner)
        self._name = name
        self._position = position
        self.damaged = 0
        """How often the flipped bit was returned."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        data = self.inner.get(name, offset, length)
        at = self._position - offset
        if name != self._name or not 0 <= at < len(data):
            return data
        self.damaged += 1
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def close(self) -> None:
        """Do nothing: the inner store is closed by its owner."""


def damaged_copy(subject: DrilledSnapshot, seed: str) -> tuple[Repository, DamagingStore]:
    """Return the repository with one bit of the snapshot flipped, and its store; the seed decides which bit."""
    repository, record = subject.repository, subject.choice.record
    infos = sorted(
        (repository.contents(record.generation, segment)[sha256] for segment, sha256, _ in record.parts),
        key=lambda info: hashlib.sha256(f"{seed}\n{info.name}".encode()).digest(),
    )
    number = int.from_bytes(hashlib.sha256(f"{seed}\nbit".encode()).digest()[:6], "big")
    store = DamagingStore(repository.store, infos[0].name, number % infos[0].size)
    return Repository(store, repository.signers, repository.keepers), store


def check_damage(
    subject: DrilledSnapshot,
    copy: tuple[Repository, DamagingStore],
    scratch: Path,
    restore: Callable[[Repository], object],
) -> Check:
    """Check that both the check of every byte and a restore refuse the damaged copy."""
    findings = Findings(CheckName.DAMAGE, 2)
    repository, store = copy
    authentic, _, _ = check_authentic(repository, subject.choice.record, subject.choice.keys, scratch)
    findings.add("damage-not-noticed-by-check", int(authentic.verdict != "fail"))
    try:
        restore(repository)
    except DamageError:
        pass
    else:
        findings.add("damage-not-noticed-by-restore")
    findings.add("damage-not-done", int(not store.damaged))
    return findings.check()
