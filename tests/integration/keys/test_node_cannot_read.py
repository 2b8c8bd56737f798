"""A node can add, not read: whoever has all of its files opens nothing that was backed up before."""

from __future__ import annotations

import base64
import hashlib
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.errors import BackupdError, KeyRefusedError
from backupd.model.ids import Pseudonym
from backupd.seal import suite
from backupd.seal.container_format import DATA_KEY_INFO, SEALED_KEY_SIZE, read_header
from backupd.seal.container_reader import ContainerReader
from backupd.seal.keyring import CHUNK_KEY_LABEL, CHUNK_KEY_NONCE


@pytest.fixture
def stolen(node_of: Callable[..., NodeFolder], pg17: Server, make_database: Callable[..., Database]) -> NodeFolder:
    """A node after two backups, and after a third that was killed just before its record."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)",
        "INSERT INTO note SELECT g % 9, md5(g::text) FROM generate_series(1, 3000) g",
        "INSERT INTO note SELECT 77, repeat(md5(g::text), 100) FROM generate_series(1, 1000) g",
    )
    node = node_of(database)
    node.json("backup")
    database.sql("UPDATE note SET said = 'x' WHERE tenant = 1")
    node.json("backup")
    database.sql("INSERT INTO note VALUES (100, 'new tenant')")
    assert node.run("before:snapshots/:1", "backup", module=("doubles.node.crash_at",)).returncode == -signal.SIGKILL
    return node


def every_byte(node: NodeFolder) -> bytes:
    """All files of the machine, and what SQLite keeps in its pages, value by value."""
    files = [path for path in sorted(node.node.rglob("*")) if path.is_file()]
    return b"\0".join([*(path.read_bytes() for path in files), *values(node)])


def values(node: NodeFolder) -> Iterator[bytes]:
    """Every value in every table of the node's index."""
    for path in node.node.rglob("index.sqlite"):
        database = sqlite3.connect(path)
        for (table,) in database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            for row in database.execute(f"SELECT * FROM {table}"):
                yield from (value if isinstance(value, bytes) else str(value).encode() for value in row)
        database.close()


def containers(node: NodeFolder) -> list[Path]:
    found = [path for path in (node.folder / "disk" / "be" / "segments").rglob("*") if path.is_file()]
    assert any(path.suffix == ".pack" for path in found)
    return found


def data_key(path: Path, secret: bytes) -> bytes:
    data = path.read_bytes()
    raw = read_header(data, path.name).raw
    sealed = data[len(raw) : len(raw) + SEALED_KEY_SIZE]
    return suite.unseal(secret, DATA_KEY_INFO + hashlib.sha256(raw).digest(), sealed)


def test_no_secret_half_lies_on_the_node(stolen: NodeFolder) -> None:
    """Of no recipient, segment, container or keyring, in no spelling: what sealed them was forgotten."""
    repository = stolen.repository()
    (generation,) = {repository.generation_of(name) for name in repository.snapshots()}
    keys = repository.open_keys(stolen.pair.secret, [generation])
    secrets = {stolen.pair.secret, *(keys[pseudonym].secret for pseudonym in keys)}
    secrets |= {data_key(path, keys[Pseudonym(path.parent.name)].secret) for path in containers(stolen)}
    for keyring in repository.keyrings(generation):
        secrets |= {suite.unseal(stolen.pair.secret, keyring.ids.info(), sealed) for sealed in keyring.wraps.values()}
    assert len(secrets) > 25
    everything = every_byte(stolen)
    for secret in secrets:
        halves = [secret] if len(secret) == 32 else [secret, secret[:32], secret[32:64], secret[64:]]
        for half in halves:
            for spelled in (half, half.hex().encode(), base64.b64encode(half), base64.b85encode(half)):
                assert spelled not in everything
    # The same search finds what does lie there.
    assert keys.chunk_keys[generation] in everything
    assert stolen.pair.public in everything or base64.b64encode(stolen.pair.public) in everything


def candidates(node: NodeFolder, size: int) -> list[bytes]:
    """Everything on the node that could be a secret of this size: values, windows of small files, their hashes."""
    found = {value for value in values(node) if len(value) == size}
    for path in node.node.rglob("*"):
        if path.is_file() and path.stat().st_size < 4000:
            data = path.read_bytes()
            texts = [data, *_decoded(data)]
            found |= {text[at : at + size] for text in texts for at in range(len(text) - size + 1)}
    found |= {(hashlib.sha256(one).digest() * 3)[:size] for one in list(found)}
    return sorted(found)


def _decoded(data: bytes) -> Iterator[bytes]:
    for word in data.replace(b'"', b" ").split():
        for decode in (bytes.fromhex, base64.b64decode):
            try:
                yield decode(word.decode())
            except ValueError:
                continue


def test_nothing_on_the_node_opens_a_container(stolen: NodeFolder) -> None:
    """Not as the key of its data, nor as the secret half of its segment; and the true one does."""
    short, long = candidates(stolen, suite.KEY_SIZE), candidates(stolen, suite.SECRET_SIZE)
    assert len(short) > 100
    assert len(long) > 100
    repository = stolen.repository()
    keys = repository.open_keys(stolen.pair.secret, [repository.generation_of(repository.snapshots()[0])])
    for path in containers(stolen):
        data = path.read_bytes()
        context = read_header(data, path.name).context
        true = keys[context.segment].secret
        assert data_key(path, true) not in short
        assert true not in long
        assert ContainerReader(_reading(data), len(data), secret=true, context=context, where="x").blocks
    smallest = min(containers(stolen), key=lambda path: path.stat().st_size)
    data = smallest.read_bytes()
    context = read_header(data, smallest.name).context
    for secret in long[:: max(1, len(long) // 300)]:
        with pytest.raises((BackupdError, ValueError)):
            ContainerReader(_reading(data), len(data), secret=secret, context=context, where="x")


def _reading(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


def test_nothing_on_the_node_opens_a_keyring(stolen: NodeFolder) -> None:
    """The program refuses each with the fingerprints of those it is sealed to."""
    repository = stolen.repository()
    generation = repository.generation_of(repository.snapshots()[0])
    long = candidates(stolen, suite.SECRET_SIZE)
    for secret in long[:: max(1, len(long) // 100)]:
        with pytest.raises(KeyRefusedError, match="does not open"):
            repository.open_keys(secret, [generation])
    for keyring in repository.keyrings(generation):
        for key in candidates(stolen, suite.KEY_SIZE):
            with pytest.raises(suite.NotAuthenticError):
                suite.Aead(key).open(CHUNK_KEY_NONCE, keyring.chunk_key, CHUNK_KEY_LABEL)
