"""Checks 1 and 2: signed records and their chain; every byte the snapshot needs, authenticated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.errors import UNSOUND, DamageError
from backupd.model.stored.report import CheckName
from backupd.operations.drill.scene import Findings
from backupd.operations.verify.reading import ContainerChecker
from backupd.parallel import in_parallel
from backupd.planning.verify import ContainerKey, Stored, broken_links

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backupd.catalog.keys import SecretKeys
    from backupd.catalog.repository import Repository
    from backupd.model.ids import SnapshotName
    from backupd.model.stored.documents import Record
    from backupd.model.stored.report import Check
    from backupd.operations.drill.scene import Subject

_THREADS = 8


def check_records(subject: Subject) -> Check:
    """Every record of the repository is signed, in its place, bears witness of the ledger, and follows another."""
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
    """Every container the parts of `record` are or need: its hash, every tag, every chunk's id.

    Also how many were read, and their bytes. `scratch` takes sealed bytes while they are opened.
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
