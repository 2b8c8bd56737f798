"""Check whether an object that a node handed in may be taken: by its bytes, by what the store has, and by the ledger.

A node is not believed, because an intruder may hand in anything. What passes is what an honest node could have added
itself, and no more: no object of a keeper, none that expired or was purged, none that lacks what it refers to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO

from backupd.errors import DamageError, RefusedError
from backupd.model.documents import REDUCED, Record
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, SnapshotName
from backupd.model.ledger import SegmentRef
from backupd.model.text import parse_stamp
from backupd.repository import layout
from backupd.repository.incoming import IncomingObject
from backupd.repository.ledger import Chain
from backupd.repository.repository import Repository
from backupd.seal.container_format import (
    CLEAR_START,
    CONTAINER_LIMIT,
    END,
    SMALLEST,
    ContainerContext,
    header_length,
    read_header,
)
from backupd.seal.documents import LIMITS


class NotYet(Exception):  # noqa: N818 - no error: the rest of it is on its way
    """An object refers to something that is not on the store yet; the message names it."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The result of one ingest of one store."""

    store: str
    taken: Mapping[str, int]
    """How many objects were taken, by kind."""
    bytes: int
    """Bytes of the objects that were taken."""
    dropped: int
    """Objects removed: handed in twice, of purged tenants, or left by runs that ended long ago."""
    waiting: Mapping[ObjectName, str]
    """Objects that are left for the next time, and what each waits for."""
    refused: Mapping[ObjectName, str]
    """Objects that no honest node hands in, and why; each is removed after two days."""


LARGEST: Mapping[layout.ObjectKind, int] = {
    layout.ObjectKind.PACK: CONTAINER_LIMIT,
    layout.ObjectKind.KEYRING: LIMITS["keyring"],
    layout.ObjectKind.PART: CONTAINER_LIMIT,
    layout.ObjectKind.RECORD: LIMITS["snapshot"],
}
"""The kinds that a node may hand in, in the order in which they are taken (FORMAT.md §2), with the most bytes of
one."""
TAKEN = tuple(LARGEST)


@dataclass(frozen=True, slots=True)
class IngestGround:
    """The facts that an object is checked against."""

    repository: Repository
    chain: Chain
    purged: frozenset[SegmentRef]
    expired: frozenset[SnapshotName]
    """Snapshots that expired on this store."""
    sizes: Mapping[ObjectName, int]
    """Bytes of every object that stands in its place."""
    keyed: Mapping[GenerationId, frozenset[Pseudonym]]
    """Segments that the keyrings in their place list."""
    now: datetime
    tolerance: timedelta
    max_age: timedelta
    """The greatest age that any snapshot may have."""


def check(one: IncomingObject, file: IO[bytes], ground: IngestGround) -> None:
    """Check an object: raises DamageError or RefusedError when it must not be taken, NotYet when it must wait.

    `file` is the whole object, whose hash was compared with its name where that is one.
    """
    file.seek(0)
    match one.place.kind:
        case layout.ObjectKind.PACK | layout.ObjectKind.PART:
            _check_container(one, file, ground)
        case layout.ObjectKind.KEYRING:
            _check_keyring(one, file.read(), ground)
        case _:
            _check_record(one, file.read(), ground)


def _check_container(one: IncomingObject, file: IO[bytes], ground: IngestGround) -> None:
    place, where = one.place, one.target
    start = file.read(CLEAR_START)
    header = read_header(start + file.read(header_length(start, where) - CLEAR_START), where)
    context = ContainerContext(ground.repository.info().repository, *_segment(place))
    if header.kind != place.kind.value or header.context != context:
        raise DamageError(f"'{where}' is not in its own place")
    file.seek(max(0, one.size - len(END)))
    if one.size < SMALLEST or file.read() != END:
        raise DamageError(f"'{where}' is cut short")
    for sha256, size in header.packs:
        names = (layout.pack_name(context, sha256), layout.part_name(context, sha256))
        if size not in (ground.sizes.get(name) for name in names):
            raise NotYet(f"container '{sha256}'")


def _check_keyring(one: IncomingObject, data: bytes, ground: IngestGround) -> None:
    keyring = ground.repository.checked_keyring(data, one.target)
    generation, gone = keyring.ids.generation, keyring.shredded
    if any((generation, pseudonym) in ground.purged for pseudonym, _ in keyring.index if pseudonym not in gone):
        raise RefusedError(f"'{one.target}' holds a key that was shredded")
    if any((generation, pseudonym) not in ground.purged for pseudonym in gone):
        raise DamageError(f"'{one.target}' lacks keys, and nobody purged them")


def _check_record(one: IncomingObject, data: bytes, ground: IngestGround) -> None:
    generation, snapshot = one.place.generation, one.place.snapshot
    if generation is None or snapshot is None:
        raise DamageError(f"'{one.target}' is no record's name")
    record = ground.repository.checked_record(data, snapshot, generation)
    _check_story(one, record, ground)
    if snapshot in ground.expired:
        raise RefusedError(f"'{one.target}' expired, and does not come back")
    keyed = ground.keyed.get(generation, frozenset())
    for pseudonym, sha256, size in record.parts:
        if (generation, pseudonym) in ground.purged:
            continue
        context = ContainerContext(record.repository, generation, pseudonym)
        if ground.sizes.get(layout.part_name(context, sha256)) != size:
            raise NotYet(f"part '{sha256}'")
        if pseudonym not in keyed:
            raise NotYet(f"the key of segment {pseudonym}")


def _check_story(one: IncomingObject, record: Record, ground: IngestGround) -> None:
    """Check the record's dates and its ledger head: a wrong date would let it outlive others or drive them out."""
    exported = parse_stamp(record.exported)
    if max(exported, parse_stamp(record.published)) > ground.now + ground.tolerance:
        raise RefusedError(f"'{one.target}' is of the future")
    if exported < ground.now - ground.max_age:
        raise RefusedError(f"'{one.target}' is older than any snapshot may be")
    if REDUCED in record.extra:
        raise RefusedError(f"'{one.target}' is what only a keeper writes")
    ground.chain.require(record.ledger, one.target)


def _segment(place: layout.ObjectPlace) -> tuple[GenerationId, Pseudonym]:
    if place.generation is None or place.segment is None:
        raise ValueError("not a container's place")
    return place.generation, place.segment
