"""The two readers there are, backupd's and the stand-alone script's, each behind one function over vectors."""

from __future__ import annotations

import hashlib
import hmac
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from case import Case
from cryptography.exceptions import InvalidTag
from doubles.paths import RECOVER

from backupd.errors import BackupdError
from backupd.seal import suite
from backupd.seal.container_format import ContainerContext
from backupd.seal.container_reader import ContainerReader
from backupd.seal.documents import read_document
from backupd.seal.keyfiles import read_identity
from backupd.seal.keyring import parse_keyring

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


def trusted(case: Case) -> set[str]:
    return set(case.fields["trusted"].split(","))


def with_backupd(folder: Path) -> Read:
    def container(case: Case) -> bytes:
        place = ContainerContext(*(case.fields[name] for name in ("repository", "generation", "segment")))
        reader = ContainerReader(
            at(case.data), len(case.data), secret=case.binary("secret"), context=place, where="case"
        )
        return b"".join(reader.open_block(index) for index in range(len(reader.blocks)))

    def keyring(case: Case) -> bytes:
        opened = parse_keyring(case.data, trusted(case), "case").open(case.binary("secret"))
        return b"".join(name.encode() + opened.segments[name].secret for name in sorted(opened.segments))

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

    def chunk_id(case: Case) -> bytes:
        return suite.chunk_id(bytes.fromhex(case.fields["chunk-key"]), case.fields["segment"].encode(), case.data)

    functions = {
        "container": container,
        "keyring": keyring,
        "document": document,
        "identity": identity,
        "hpke": hpke,
        "chunk-id": chunk_id,
    }
    return catching(functions, BackupdError)


def with_recover(folder: Path) -> Read:
    recover = load_recover()

    def container(case: Case) -> bytes:
        place = tuple(case.fields[name] for name in ("repository", "generation", "segment"))
        reader = recover.Container(at(case.data), len(case.data), case.binary("secret"), place, "case")
        return b"".join(reader.open_block(index) for index in range(len(reader.blocks)))

    def keyring(case: Case) -> bytes:
        opened = recover.Keyring(case.data, trusted(case), "case").open(case.binary("secret"))
        return b"".join(name.encode() + opened[name].secret for name in sorted(opened))

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

    def chunk_id(case: Case) -> bytes:
        # The script has no use for ids; this is FORMAT.md's sentence in another spelling.
        inner = hashlib.sha256(case.fields["segment"].encode() + case.data).digest()
        return hmac.new(bytes.fromhex(case.fields["chunk-key"]), inner, hashlib.sha256).digest()[:16]

    functions = {
        "container": container,
        "keyring": keyring,
        "document": document,
        "identity": identity,
        "hpke": hpke,
        "chunk-id": chunk_id,
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
