"""The two readers there are, backupd's and the stand-alone script's, each behind one function over vectors."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
from case import Case
from cryptography.exceptions import InvalidTag
from doubles.paths import RECOVER

from backupd.errors import BackupdError
from backupd.model.ids import GenerationId, SnapshotName
from backupd.repository.manifests import read_entries
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.documents import read_document
from backupd.seal.keyfiles import read_identity
from backupd.seal.keyring import parse_keyring
from backupd.seal.pack import PresenceMap, header_length, read_header
from backupd.seal.section_format import SectionContext
from backupd.seal.section_reader import SectionReader
from backupd.store.directory import DirectoryStore

Read = Callable[[Case], bytes]


class FailedError(Exception):
    """What a reader said, with its class by name."""

    def __init__(self, error: Exception, family: str = "") -> None:
        super().__init__(str(error))
        self.family = family or type(error).__name__
        self.message = str(error)


def load_recover() -> ModuleType:
    """`scripts/recover` as a module; nothing is written beside it."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader = importlib.machinery.SourceFileLoader("recover", str(RECOVER))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("recover", loader))
        sys.modules["recover"] = module
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def at(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def listing(rows: Sequence[Any], there: Sequence[bool]) -> bytes:
    """What a pack's header and map say, one section a line."""
    lines = [
        f"{one.segment} {one.keyring} {one.place} {one.number} {one.length} {one.sha256.hex()} {int(is_there)}\n"
        for one, is_there in zip(rows, there, strict=True)
    ]
    return "".join(lines).encode()


def place_record(folder: Path, case: Case) -> Path:
    """A region's folder with the record in the place that its name asks for."""
    region = folder / "be"
    path = region / "snapshots" / case.fields["generation"] / case.fields["snapshot"]
    path.parent.mkdir(parents=True)
    path.write_bytes(case.data)
    (region / "repository.json").write_bytes(case.binary("info"))
    return region


def packs_of(packs: Sequence[Sequence[Any]]) -> bytes:
    """The packs that a record names, one a line."""
    return "".join(f"{sha256} {manifests} {others}\n" for sha256, manifests, others in packs).encode()


def entries_of(lines: Iterable[list[Any]]) -> bytes:
    """What a manifest says, one entry a line: continued runs with the line they belong to, and known members only."""
    found: list[list[Any]] = []
    for kind, *members in lines:
        if kind == "more":
            found[-1][-1] += members[0]
        else:
            found.append([kind, *members[: MEMBERS[kind]]])
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in found).encode()


MEMBERS = {"table": 4, "rows": 3, "file": 4, "sequences": 1, "facts": 1}


def trusted(case: Case) -> set[str]:
    return set(case.fields["trusted"].split(","))


def with_backupd(folder: Path) -> Read:
    def section(case: Case) -> bytes:
        ids = (case.fields[name] for name in ("repository", "generation", "segment"))
        context = SectionContext(*ids, int(case.fields["number"]))
        reader = SectionReader(at(case.data), len(case.data), key=case.binary("key"), context=context, where="case")
        return b"".join(reader.open_block(index) for index in range(len(reader.blocks)))

    def pack(case: Case) -> bytes:
        length = header_length(case.data[:12], "case")
        header = read_header(case.data, "case")
        there = PresenceMap.read(header, case.data[length : length + header.map_size], "case")
        return listing(header.rows, [at in there for at in range(len(header.rows))])

    def keyring(case: Case) -> bytes:
        keyring = parse_keyring(case.data, trusted(case), "case")
        opened = keyring.open(case.binary("secret"))
        return b"".join(keyring.index[place][0].encode() + opened.key(place).key for place in keyring.sealed)

    def record(case: Case) -> bytes:
        store = DirectoryStore(place_record(folder, case))
        found = Repository(store, trusted(case), [case.fields["keeper"]]).record(
            SnapshotName(case.fields["snapshot"]), GenerationId(case.fields["generation"])
        )
        return packs_of(found.packs)

    def manifest(case: Case) -> bytes:
        ids = (case.fields[name] for name in ("repository", "generation", "segment"))
        context = SectionContext(*ids, int(case.fields["number"]))
        reader = SectionReader(at(case.data), len(case.data), key=case.binary("key"), context=context, where="case")
        return entries_of(msgspec.json.decode(msgspec.json.encode(entry)) for entry in read_entries(reader))

    def document(case: Case) -> bytes:
        return read_document(case.data, case.fields["kind"], trusted(case), "case")

    def identity(case: Case) -> bytes:
        path = folder / "identity"
        path.write_bytes(case.data)
        return read_identity(path, case.fields["passphrase"]).secret

    def hpke(case: Case) -> bytes:
        assert suite.public_of(case.binary("secret")) == case.binary("public")
        try:
            return suite.unseal(case.binary("secret"), bytes.fromhex(case.fields["info"]), case.data)
        except suite.NotAuthenticError as error:
            raise FailedError(error, "DamageError") from error

    functions = {
        "section": section,
        "manifest": manifest,
        "pack": pack,
        "keyring": keyring,
        "record": record,
        "document": document,
        "identity": identity,
        "hpke": hpke,
    }
    return catching(functions, BackupdError)


def with_recover(folder: Path) -> Read:
    recover = load_recover()

    def section(case: Case) -> bytes:
        context = tuple(case.fields[name] for name in ("repository", "generation", "segment"))
        number = int(case.fields["number"])
        reader = recover.Section(at(case.data), len(case.data), case.binary("key"), context, number, "case")
        return b"".join(reader.open_block(index) for index in range(len(reader.blocks)))

    def pack(case: Case) -> bytes:
        read = recover.Pack(at(case.data), "case")
        return listing(read.rows, read.there)

    def keyring(case: Case) -> bytes:
        keyring = recover.Keyring(case.data, trusted(case), "case")
        keyring.open(case.binary("secret"))
        return b"".join(keyring.index[place][0].encode() + keyring.key(place).key for place in keyring.sealed)

    def record(case: Case) -> bytes:
        store = recover.Store(place_record(folder, case), case.fields["trusted"], [case.fields["keeper"]])
        return packs_of(store.record(f"{case.fields['generation']}/{case.fields['snapshot']}")["packs"])

    def manifest(case: Case) -> bytes:
        context = tuple(case.fields[name] for name in ("repository", "generation", "segment"))
        number = int(case.fields["number"])
        row = SimpleNamespace(number=number)
        section = recover.Section(at(case.data), len(case.data), case.binary("key"), context, number, "case")
        pack = SimpleNamespace(rows=[row])
        store = SimpleNamespace(section=lambda *_: section)
        keys = SimpleNamespace(of=lambda _: SimpleNamespace(key=b""))
        content = recover.Content(store, keys, recover.Place(pack, 0), {number: recover.Place(pack, 0)})
        database = recover.Database(folder / "app", [])
        with closing(database._load):
            recover.define(content, database)
            recover.write_segment(content, recover.Segment(b"", "app", "structure", None), database)
            return entries_of(content.lines())

    def document(case: Case) -> bytes:
        recover.read_document(case.data, case.fields["kind"], trusted(case), "case")
        return case.data.partition(b"\n")[0]

    def identity(case: Case) -> bytes:
        path = folder / "identity"
        path.write_bytes(case.data)
        try:
            return recover.read_identity(path, case.fields["passphrase"])
        except recover.UsageError as error:
            raise FailedError(error, "ConfigError") from error

    def hpke(case: Case) -> bytes:
        assert recover.public_of(case.binary("secret")) == case.binary("public")
        try:
            return recover.unseal(case.binary("secret"), bytes.fromhex(case.fields["info"]), case.data)
        except (InvalidTag, ValueError) as error:
            raise FailedError(error, "DamageError") from error

    functions = {
        "section": section,
        "manifest": manifest,
        "pack": pack,
        "keyring": keyring,
        "record": record,
        "document": document,
        "identity": identity,
        "hpke": hpke,
    }
    return catching(functions, recover.RecoverError)


def catching(functions: dict[str, Read], family: type[Exception]) -> Read:
    def read(case: Case) -> bytes:
        try:
            return functions[case.fields["reader"]](case)
        except family as error:
            raise FailedError(error) from error

    return read


READERS: dict[str, Callable[[Path], Read]] = {"backupd": with_backupd, "recover": with_recover}
