"""Check 16: a fetched copy is damaged on purpose, and everything that reads it must notice."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from backupd.catalog.repository import Repository
from backupd.errors import DamageError
from backupd.model.stored.report import CheckName
from backupd.operations.drill.checks.records import check_authentic
from backupd.operations.drill.scene import Findings
from backupd.store.forwarding import ForwardingStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backupd.model.ids import ObjectName
    from backupd.model.stored.report import Check
    from backupd.operations.drill.scene import Subject
    from backupd.store.base import Store


class DamagingStore(ForwardingStore):
    """A store of whose one object a bit is turned whenever it is fetched. What is on the store stays as it is."""

    def __init__(self, inner: Store, name: ObjectName, position: int) -> None:
        super().__init__(inner)
        self._name = name
        self._position = position
        self.damaged = 0
        """Times the bit was handed out turned."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        data = self.inner.get(name, offset, length)
        at = self._position - offset
        if name != self._name or not 0 <= at < len(data):
            return data
        self.damaged += 1
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def close(self) -> None:
        """The store that it stands before is closed by whoever opened it."""


def damaged_copy(subject: Subject, seed: str) -> tuple[Repository, DamagingStore]:
    """The repository with one bit of one object of the snapshot turned; which, the seed decides."""
    repository, record = subject.repository, subject.choice.record
    infos = sorted(
        (repository.contents(record.generation, segment)[sha256] for segment, sha256, _ in record.parts),
        key=lambda info: hashlib.sha256(f"{seed}\n{info.name}".encode()).digest(),
    )
    number = int.from_bytes(hashlib.sha256(f"{seed}\nbit".encode()).digest()[:6], "big")
    store = DamagingStore(repository.store, infos[0].name, number % infos[0].size)
    return Repository(store, repository.signers, repository.keepers), store


def check_damage(
    subject: Subject, copy: tuple[Repository, DamagingStore], scratch: Path, restore: Callable[[Repository], object]
) -> Check:
    """Both the check of every byte and a restore must refuse the damaged copy; else they would pass anything."""
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
