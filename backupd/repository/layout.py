"""The places of all objects in a region's folder, FORMAT.md §1: names are made and taken apart here. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from backupd.model.ids import (
    RUN_FORM,
    DrillId,
    GenerationId,
    ObjectHash,
    ObjectName,
    RunId,
    SnapshotName,
    well_formed,
)
from backupd.store.names import BALLAST, is_legal

REPOSITORY: Final = ObjectName("repository.json")
GUIDE: Final = ObjectName("RECOVER.md")
SCRIPT: Final = ObjectName("recover")
RECORDS: Final = ObjectName("snapshots")
KEYRINGS: Final = ObjectName("keyrings")
PACKS: Final = ObjectName("packs")
TEMPORARY: Final = ObjectName("tmp")
LEDGER: Final = ObjectName("ledger")
MARKS: Final = ObjectName("runs")
ATTESTATIONS: Final = ObjectName("attestations")
REPORTS: Final = ObjectName("reports")
LEASES: Final = ObjectName("leases")
INCOMING: Final = ObjectName("incoming")
"""Folder of the objects that nodes hand in to the keeper."""
_KEEPER: Final = "keeper"
_REWRITE_MARK: Final = re.compile(rf"{RUN_FORM}\.keyring|[0-9a-f]{{64}}\.pack")
_ENTRY: Final = re.compile(r"(?!0{10})[0-9]{10}\.json")


class ObjectKind(Enum):
    """The kind of an object, as its name says."""

    REPOSITORY = "repository"
    RECORD = "record"
    KEYRING = "keyring"
    PACK = "pack"
    HELP = "help"
    """The files `RECOVER.md` and `recover`."""
    ENTRY = "ledger entry"
    ATTESTATION = "attestation"
    REPORT = "report"
    """The report of a restore drill."""
    MARK = "mark"
    """The mark of a run or a keeper at work."""
    LEASE = "lease"
    """The lease of the keeper that works on the store."""
    BALLAST = "ballast"
    """Nothing but room for the keeper."""
    TEMPORARY = "temporary"
    INCOMING = "handed in"
    """Handed in by a node, and not taken by the keeper yet."""
    FOREIGN = "foreign"
    """No kind that this format knows."""


_SINGLE: Final[dict[str, ObjectKind]] = {
    REPOSITORY: ObjectKind.REPOSITORY,
    GUIDE: ObjectKind.HELP,
    SCRIPT: ObjectKind.HELP,
    BALLAST: ObjectKind.BALLAST,
}


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """An object's name taken apart; fields that its kind does not have are None."""

    kind: ObjectKind
    generation: GenerationId | None = None
    sha256: ObjectHash | None = None
    snapshot: SnapshotName | None = None
    run: RunId | None = None
    drill: DrillId | None = None


def record_name(generation: GenerationId, snapshot: SnapshotName) -> ObjectName:
    return ObjectName(f"{RECORDS}/{generation}/{snapshot}")


def keyring_name(generation: GenerationId, run: RunId) -> ObjectName:
    return ObjectName(f"{KEYRINGS}/{generation}/{run}.keyring")


def keyrings_folder(generation: GenerationId) -> ObjectName:
    return ObjectName(f"{KEYRINGS}/{generation}")


def packs_folder(generation: GenerationId) -> ObjectName:
    return ObjectName(f"{PACKS}/{generation}")


def pack_name(generation: GenerationId, sha256: ObjectHash) -> ObjectName:
    """Return the name of the pack whose header has this SHA-256."""
    return ObjectName(f"{packs_folder(generation)}/{sha256}.pack")


def marks_folder(generation: GenerationId) -> ObjectName:
    return ObjectName(f"{MARKS}/{generation}")


def run_mark(generation: GenerationId, run: RunId) -> ObjectName:
    return ObjectName(f"{marks_folder(generation)}/{run}")


def keeper_mark(generation: GenerationId) -> ObjectName:
    return ObjectName(f"{marks_folder(generation)}/{_KEEPER}")


def rewrite_mark(generation: GenerationId, name: ObjectName) -> ObjectName:
    """Return the name of the mark that a process sets before it replaces the keyring or pack `name`."""
    return ObjectName(f"{marks_folder(generation)}/{name.rpartition('/')[2]}")


def entry_name(seq: int) -> ObjectName:
    """Return the name of the ledger's entry number `seq`, from 1."""
    return ObjectName(f"{LEDGER}/{seq:010d}.json")


def lease_name(number: int) -> ObjectName:
    """Return the name of the lease taken or renewed as number `number`, from 1."""
    return ObjectName(f"{LEASES}/{number:010d}.json")


def attestation_name(sha256: ObjectHash) -> ObjectName:
    return ObjectName(f"{ATTESTATIONS}/{sha256}.json")


def report_name(drill: DrillId) -> ObjectName:
    return ObjectName(f"{REPORTS}/{drill}.json")


def place_of(name: ObjectName) -> ObjectPlace:
    """Return the kind and the parts of an object's name; FOREIGN when the format has no such name.

    So is a name that no store takes: one with a control character can be made on the server, and only listed here.
    """
    match name.split("/") if is_legal(name) else []:
        case [single]:
            return ObjectPlace(_SINGLE.get(single, ObjectKind.FOREIGN))
        case ["tmp", _]:
            return ObjectPlace(ObjectKind.TEMPORARY)
        case ["incoming", _, *_]:
            return ObjectPlace(ObjectKind.INCOMING)
        case ["ledger" | "leases" | "attestations" | "reports" as folder, file]:
            return _of_keeper(folder, file)
        case [folder, generation, *rest] if well_formed("generation", generation):
            return _in_generation(folder, GenerationId(generation), rest)
    return ObjectPlace(ObjectKind.FOREIGN)


def _of_keeper(folder: str, file: str) -> ObjectPlace:
    if folder == LEDGER and _ENTRY.fullmatch(file):
        return ObjectPlace(ObjectKind.ENTRY)
    if folder == LEASES and _ENTRY.fullmatch(file):
        return ObjectPlace(ObjectKind.LEASE)
    title = file.removesuffix(".json")
    if folder == ATTESTATIONS and file != title and well_formed("hash", title):
        return ObjectPlace(ObjectKind.ATTESTATION, sha256=ObjectHash(title))
    if folder == REPORTS and file != title and well_formed("drill", title):
        return ObjectPlace(ObjectKind.REPORT, drill=DrillId(title))
    return ObjectPlace(ObjectKind.FOREIGN)


def _in_generation(folder: str, generation: GenerationId, rest: list[str]) -> ObjectPlace:
    match folder, rest:
        case "runs", [name] if name == _KEEPER or _REWRITE_MARK.fullmatch(name):
            return ObjectPlace(ObjectKind.MARK, generation)
        case "runs", [name] if well_formed("run", name):
            return ObjectPlace(ObjectKind.MARK, generation, run=RunId(name))
        case "snapshots", [name] if well_formed("snapshot", name):
            return ObjectPlace(ObjectKind.RECORD, generation, snapshot=SnapshotName(name))
        case "keyrings", [name] if name.endswith(".keyring") and well_formed("run", name.removesuffix(".keyring")):
            return ObjectPlace(ObjectKind.KEYRING, generation, run=RunId(name.removesuffix(".keyring")))
        case "packs", [name] if name.endswith(".pack") and well_formed("hash", name.removesuffix(".pack")):
            return ObjectPlace(ObjectKind.PACK, generation, sha256=ObjectHash(name.removesuffix(".pack")))
    return ObjectPlace(ObjectKind.FOREIGN)
