"""A node can add, not read: whoever has all of its files opens nothing that was backed up before."""

from __future__ import annotations

import base64
import hashlib
import signal
import sqlite3
from collections.abc import Callable, Iterator

import pytest
from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.errors import DamageError, KeyRefusedError
from backupd.repository.keys import SecretKeys
from backupd.repository.packs import Section, fetch_section
from backupd.seal import suite
from backupd.seal.keyring import entry_label
from backupd.seal.section_reader import SectionReader


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


def sections(node: NodeFolder) -> list[Section]:
    """Every section on the store, those of the killed run, too."""
    repository = node.repository()
    (generation,) = {repository.generation_of(name) for name in repository.snapshots()}
    packs = [repository.pack(generation, sha256) for sha256 in repository.list_packs(generation)]
    found = [section for pack in packs for section in pack.sections()]
    assert len(packs) > 2
    return found


def true_keys(node: NodeFolder) -> SecretKeys:
    repository = node.repository()
    return repository.open_keys(node.pair.secret, [repository.generation_of(repository.snapshots()[0])])


def test_no_secret_lies_on_the_node(stolen: NodeFolder) -> None:
    """Of no recipient, segment or keyring, in no spelling: what sealed them was forgotten."""
    keys, repository = true_keys(stolen), stolen.repository()
    found = sections(stolen)
    secrets = {stolen.pair.secret, *(keys.of(section.row).key for section in found)}
    for keyring in repository.keyrings(found[0].context.generation):
        secrets.add(keyring.file_key(stolen.pair.secret))
        secrets |= {keyring.open(stolen.pair.secret).key(place).key for place in keyring.sealed}
    assert len(secrets) > 12  # more, the more workers had something of a segment
    everything = every_byte(stolen)
    for secret in secrets:
        halves = [secret] if len(secret) == 32 else [secret, secret[:32], secret[32:64], secret[64:]]
        for half in halves:
            for spelled in (half, half.hex().encode(), base64.b64encode(half), base64.b85encode(half)):
                assert spelled not in everything
    # The same search finds what does lie there.
    assert stolen.pair.public in everything or base64.b64encode(stolen.pair.public) in everything
    assert found[0].row.segment.encode() in everything


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


def test_nothing_on_the_node_opens_a_section(stolen: NodeFolder) -> None:
    """No key of what a run added is there; and the true one opens it."""
    known = candidates(stolen, suite.KEY_SIZE)
    assert len(known) > 100
    keys, store = true_keys(stolen), stolen.repository().store
    found = sections(stolen)
    for section in found:
        true = keys.of(section.row).key
        assert true not in known
        assert opened(fetch_section(store, section), section, true).blocks
    smallest = min(found, key=lambda section: section.row.length)
    data = fetch_section(store, smallest)
    for key in known[:: max(1, len(known) // 300)]:
        with pytest.raises(DamageError, match="not authentic"):
            opened(data, smallest, key)


def opened(data: bytes, section: Section, key: bytes) -> SectionReader:
    return SectionReader(lambda at, n: data[at : at + n], len(data), key=key, context=section.context, where="x")


def test_nothing_on_the_node_opens_a_keyring(stolen: NodeFolder) -> None:
    """The program refuses each with the fingerprints of those it is sealed to."""
    repository = stolen.repository()
    generation = repository.generation_of(repository.snapshots()[0])
    long = candidates(stolen, suite.SECRET_SIZE)
    for secret in long[:: max(1, len(long) // 100)]:
        with pytest.raises(KeyRefusedError, match="does not open"):
            repository.open_keys(secret, [generation])
    for keyring in repository.keyrings(generation):
        place, sealed = next(iter(keyring.sealed.items()))
        for key in candidates(stolen, suite.KEY_SIZE):
            with pytest.raises(suite.NotAuthenticError):
                suite.Aead(key).open(suite.nonce(place), sealed, entry_label(keyring.index[place][0]))
