"""Checks 1, 2 and 16: signed records and their chain; every byte the snapshot needs, authenticated; and a copy that is
damaged on purpose, which everything that reads it must notice.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from backupd.errors import UNSOUND, DamageError, ObjectMissingError
from backupd.model.ids import ObjectName, SnapshotName
from backupd.model.report import Check, CheckName
from backupd.model.text import parse_stamp
from backupd.operations.drill.named_findings import FindingNames
from backupd.operations.drill.types import Findings
from backupd.parallel import in_parallel
from backupd.planning.verify import broken_links
from backupd.repository import layout
from backupd.repository.packs import Section, copy_section
from backupd.repository.repository import Repository
from backupd.seal.section_reader import SectionReader
from backupd.store.base import Store
from backupd.store.forwarding import ForwardingStore

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrilledSnapshot
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.restore.opened_choice import OpenedChoice

_THREADS = 8
_IN_MEMORY = 4 << 20
"""Bytes of a section that is opened in memory: any that our writer makes."""


def check_records(subject: DrilledSnapshot, names: FindingNames) -> Check:
    """Check that each record is signed, in its place, agrees with the ledger, and follows another."""
    findings = Findings(CheckName.RECORDS, names=names)
    repository, history = subject.repository, subject.history
    previous: dict[SnapshotName, SnapshotName | None] = {}
    unsound: list[SnapshotName] = []
    for generation, name in repository.records():
        previous[name] = None
        findings.examined += 1
        try:
            record = repository.record(name, generation)
        except UNSOUND:
            unsound.append(name)
            continue
        previous[name] = record.previous
        try:
            history.chain.require(record.ledger, layout.record_name(generation, name))
        except DamageError:
            findings.each("ledger-not-the-one-seen", [name])
    history.refresh()
    expired = history.explained.expired
    findings.each("record-not-believed", [name for name in unsound if name not in expired])
    findings.each("record-missing", [before for _, before in broken_links(previous) if before not in expired])
    return findings.check()


def check_authentic(
    repository: Repository,
    choice: OpenedChoice,
    scratch: Path,
    names: FindingNames | None = None,
    history: LedgerHistory | None = None,
) -> tuple[Check, int, int]:
    """Check every section that what was chosen needs: its hash, and every tag in it.

    Returns the check, how many sections were read, and their bytes. `scratch` takes sealed bytes while they are opened.
    With the ledger's history, what a keeper has purged meanwhile may be missing.
    """
    findings = Findings(CheckName.AUTHENTIC, names=names or FindingNames())
    kept = set(choice.segments)
    wanted = [section for (segment, _), section in choice.sections.sections.items() if segment in kept]
    read, missing, damaged = 0, list[Section](), list[Section]()

    def open_one(section: Section) -> None:
        row = section.row
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY, dir=str(scratch)) as file:
            copy_section(repository.store, section, cast("BinaryIO", file))

            def read_at(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            key = choice.keys.of(row).key
            reader = SectionReader(read_at, row.length, key=key, context=section.context, where=section.where)
            for index in range(len(reader.blocks)):
                reader.open_block(index)

    for section, result in in_parallel(open_one, wanted, _THREADS):
        findings.examined += 1
        read += section.row.length
        try:
            result.result()
        except ObjectMissingError:
            missing.append(section)
        except UNSOUND:
            damaged.append(section)
    if (missing or damaged) and history is not None:
        history.refresh()
    findings.each("object-missing", [one.where for one in missing if not _is_removed(one, choice, history)])
    findings.each("object-damaged", [one.where for one in damaged if not _is_removed(one, choice, history)])
    return findings.check(), findings.examined, read


def _is_removed(section: Section, choice: OpenedChoice, history: LedgerHistory | None) -> bool:
    """Check whether a keeper may have removed a section since it was chosen, by what the ledger says now."""
    if history is None:
        return False
    explained, record = history.explained, choice.record
    return (
        explained.is_purged(record.generation, section.row.segment)
        or choice.snapshot in explained.expired
        or explained.is_aged(record.generation, choice.keys.class_of(section.row), parse_stamp(record.exported))
    )


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
    repository, choice = subject.repository, subject.choice
    kept = set(choice.segments)
    sections = sorted(
        (section for (segment, _), section in choice.sections.sections.items() if segment in kept),
        key=lambda section: hashlib.sha256(f"{seed}\n{section.where}".encode()).digest(),
    )
    number = int.from_bytes(hashlib.sha256(f"{seed}\nbit".encode()).digest()[:6], "big")
    chosen = sections[0]
    store = DamagingStore(repository.store, chosen.pack.name, chosen.offset + number % chosen.row.length)
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
    authentic, _, _ = check_authentic(repository, subject.choice, scratch)
    findings.add("damage-not-noticed-by-check", int(authentic.verdict != "fail"))
    try:
        restore(repository)
    except DamageError:
        pass
    else:
        findings.add("damage-not-noticed-by-restore")
    findings.add("damage-not-done", int(not store.damaged))
    return findings.check()
