"""Keyrings and identity files."""

from __future__ import annotations

import base64
import gc
import json
import stat
import tracemalloc
from pathlib import Path

import pytest

from backupd.errors import BackupdError, ConfigError, DamageError, KeyRefusedError, RefusedError
from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SegmentTags,
    TenantTag,
)
from backupd.model.tenancy import SegmentName
from backupd.seal import suite
from backupd.seal.documents import Signer, check_size
from backupd.seal.keyfiles import Recipient, read_identity, read_recipient, write_identity, write_recipient
from backupd.seal.keyring import (
    Keyring,
    KeyringIds,
    KeyringWriter,
    OpenedKeyring,
    parse_keyring,
    with_wraps,
    without_lines,
)
from backupd.seal.keyring_lines import KeyringIndex, SealedLines

RUN = "20300101T000000Z-0a0b0c0d"
IDS = KeyringIds(RepositoryId("0f" * 16), RegionName("be"), GenerationId(RUN), RunId(RUN))
ME, SIGNER = suite.generate(), Signer(bytes(range(32)))
CREATED = "2030-01-01T00:00:00.000000Z"


def tags(number: int) -> SegmentTags:
    return SegmentTags(TenantTag(f"{number:032x}"), ClassTag(f"{number % 2:016x}"), DatabaseTag(f"{number % 3:016x}"))


def segment(number: int) -> Pseudonym:
    return Pseudonym(f"{number + 1000:032x}")


def key(number: int) -> bytes:
    return bytes([number]) * 32


def a_keyring(number: int = 2, recipients: tuple[suite.KeyPair, ...] = (ME,)) -> bytes:
    writer = KeyringWriter(IDS, [pair.public for pair in recipients])
    for at in range(number):
        assert writer.add(segment(at), key(at), SegmentName("app", "uploaded", f"tenant {at}"), tags(at)) == at
    assert writer.entries == number
    return writer.render(CREATED, SIGNER)


def parsed(data: bytes) -> Keyring:
    return parse_keyring(data, [SIGNER.public], "the keyring")


def test_every_flipped_bit_is_found_without_a_key() -> None:
    """Signature, index hashes and the wraps' check leave no bit uncovered."""
    data = a_keyring(1)
    parsed(data)
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises(BackupdError, match="the keyring"):
            parsed(bytes(flipped))


@pytest.mark.parametrize(
    "data",
    [b"x\n" * (1 << 19), b"\n".join([*a_keyring().split(b"\n")[:3], b"x\n" * (1 << 19)])],
    ids=["unsigned", "signed"],
)
def test_lines_that_nobody_signed_take_no_memory(data: bytes) -> None:
    """Whoever may add to a store can add a file of a million lines, or put them behind a signed index."""
    tracemalloc.start()
    try:
        with pytest.raises(DamageError, match="the keyring"):
            parsed(data)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data)
    finally:
        tracemalloc.stop()


def test_a_recipient_who_is_configured_twice_stands_once() -> None:
    """Two files may hold one recipient; FORMAT.md says once."""
    other = suite.generate()
    data = KeyringWriter(IDS, [ME.public, other.public, ME.public]).render(CREATED, SIGNER)
    assert data.count(b'"recipient":') == 2
    assert list(parsed(data).wraps) == [suite.fingerprint(one.public) for one in (ME, other)]


def test_a_wrong_identity_is_named_as_wrong() -> None:
    """The message says which recipients would do."""
    stranger = suite.generate()
    keyring = parse_keyring(a_keyring(), [SIGNER.public], "the keyring")
    with pytest.raises(KeyRefusedError, match=suite.fingerprint(stranger.public)) as refusal:
        keyring.open(stranger.secret)
    assert suite.fingerprint(ME.public) in refusal.value.hint
    assert "`backupd key rotate` seals what is there to the recipients of today" in refusal.value.hint


def test_no_tenant_is_readable_in_a_keyring() -> None:
    """Names and secrets are sealed."""
    data = a_keyring()
    assert b"tenant 0" not in data
    assert b"uploaded" not in data


def test_a_keyring_gives_back_what_was_put_in() -> None:
    """The signed index names segments and tags without a key; an identity opens key and name of each place."""
    keyring = parsed(a_keyring(7))
    assert keyring.index == [(segment(at), tags(at)) for at in range(7)]
    opened = keyring.open(ME.secret)
    opened.check()
    for at in range(7):
        found = opened.key(at)
        assert (found.key, found.name) == (key(at), SegmentName("app", "uploaded", f"tenant {at}"))
    body = json.loads(a_keyring(7).partition(b"\n")[0])
    assert len(base64.b64decode(body["entries"])) == 52 * 7
    assert (len(body["classes"]), len(body["databases"])) == (2, 3)


def test_nothing_that_opens_a_key_is_shown() -> None:
    """No key, name or file key stands in what a program may log of a keyring."""
    keyring = parsed(a_keyring())
    opened = keyring.open(ME.secret)
    shown = f"{keyring!r} {opened!r} {opened.key(0)!r}"
    for secret in (key(0), ME.secret, keyring.file_key(ME.secret), keyring.sealed[0]):
        assert repr(secret)[2:-1] not in shown
    assert "tenant 0" not in shown


def test_a_line_that_another_key_sealed_is_named() -> None:
    """With its segment and its keyring."""
    opened = OpenedKeyring(parsed(a_keyring()), bytes(32))
    with pytest.raises(DamageError, match=rf"the key of segment {segment(1)} in 'the keyring' is not authentic"):
        opened.key(1)


def test_shredded_lines_are_gone_and_all_others_stay() -> None:
    """Removing lines changes no other byte; the index still says whose they were; the others open as before."""
    data = a_keyring(4)
    less = without_lines(data, parsed(data), {segment(1), segment(3), segment(99)})
    lines = data.split(b"\n")
    assert less == b"\n".join([*lines[:4], lines[5], b""])
    keyring = parsed(less)
    assert keyring.shredded == {segment(1), segment(3)}
    assert keyring.segments == {segment(at) for at in range(4)}
    opened = keyring.open(ME.secret)
    opened.check()
    assert [opened.key(at).key for at in (0, 2)] == [key(0), key(2)]
    again = without_lines(less, keyring, {segment(0), segment(2)})
    assert parsed(again).shredded == keyring.segments
    assert again == b"\n".join([*lines[:3], b""])


def test_other_recipients_take_over() -> None:
    """Only the line of recipients changes; the old identity opens it no more, and the new ones all do."""
    old, new, more = ME, suite.generate(), suite.generate()
    data = a_keyring(3)
    again = with_wraps(data, parsed(data), old.secret, [new.public, more.public])
    before, after = data.split(b"\n"), again.split(b"\n")
    assert (before[:2], before[3:]) == (after[:2], after[3:])
    for pair in (new, more):
        assert parsed(again).open(pair.secret).key(2).key == key(2)
    with pytest.raises(KeyRefusedError):
        parsed(again).open(old.secret)


def test_a_segment_stands_in_a_keyring_once() -> None:
    """A writer that would seal two keys of one segment is stopped."""
    writer = KeyringWriter(IDS, [ME.public])
    writer.add(segment(0), key(0), SegmentName("app", "uploaded", None), tags(0))
    with pytest.raises(ValueError, match="lists a segment once"):
        writer.add(segment(0), key(1), SegmentName("app", "uploaded", None), tags(0))


def test_a_keyring_for_nobody_is_refused() -> None:
    """Without a recipient the backup could never be read."""
    with pytest.raises(ValueError, match="needs a recipient"):
        KeyringWriter(IDS, [])


def test_documents_have_a_size_limit() -> None:
    """The limit is checked on the size alone, before anything is read."""
    check_size(1 << 20, "repository", "it")
    with pytest.raises(DamageError, match="larger than"):
        check_size((1 << 20) + 1, "repository", "it")


def test_an_identity_file_keeps_its_pair(tmp_path: Path) -> None:
    """The pair comes back with its passphrase, from a file only its owner may read."""
    path = tmp_path / "ops.identity"
    write_identity(path, "ops", ME, "correct horse")
    assert read_identity(path, "correct horse") == ME
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_recipient(path) == Recipient("ops", ME.public)
    with pytest.raises(KeyRefusedError, match="passphrase"):
        read_identity(path, "wrong horse")
    with pytest.raises(RefusedError, match="exists"):
        write_identity(path, "ops", suite.generate(), "x")
    assert read_identity(path, "correct horse") == ME


def test_a_recipient_file_keeps_its_key(tmp_path: Path) -> None:
    """The public half comes back; a recipient file is no identity file."""
    path = tmp_path / "ops.recipient"
    write_recipient(path, Recipient("ops", ME.public))
    assert read_recipient(path).fingerprint == suite.fingerprint(ME.public)
    with pytest.raises(ConfigError, match="identity"):
        read_identity(path, "x")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"\xff",
        b'{"backupd":"recipient","version":1,"name":"x","public":"AAAA"}',
        b'{"backupd":"recipient","version":2,"name":"x","public":"AAAA"}',
        b'{"backupd":"other","version":1,"name":"x","public":"AAAA"}',
        b" " * 70000,
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: bytes) -> None:
    """A file that is something else is named, not half read."""
    path = tmp_path / "file"
    path.write_bytes(text)
    with pytest.raises(ConfigError, match="file'"):
        read_recipient(path)


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    """The operating system's reason is given."""
    with pytest.raises(ConfigError, match="No such file"):
        read_recipient(tmp_path / "none")


def test_a_keyring_takes_little_memory() -> None:
    """Verifying a generation holds all its keyrings, with a key for each segment of each run."""
    writer = KeyringWriter(IDS, [suite.generate().public])
    for number in range(1000):
        tags = SegmentTags(TenantTag(f"{number:032x}"), ClassTag("c1" * 8), DatabaseTag("db" * 8))
        writer.add(Pseudonym(f"{number:032x}"), bytes(32), SegmentName("app", "uploaded", f"tenant {number}"), tags)
    data, signer = writer.render("2030-01-02T03:04:05.000000Z", SIGNER), [SIGNER.public]
    parse_keyring(data, signer, "it")
    gc.collect()
    tracemalloc.start()
    try:
        keyring = parse_keyring(data, signer, "it")
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(keyring.index) == len(keyring.sealed) == 1000
    assert taken < 200_000


def test_an_index_is_a_sequence_and_lines_are_a_mapping() -> None:
    """As the lists and dictionaries that they stand for."""
    table = b"".join(bytes([n]) * 32 + bytes(20) for n in range(3))
    index = KeyringIndex(table, ["c1" * 8], ["db" * 8])
    listed = list(index)
    assert [index[0], index[1], index[-1]] == listed
    assert index[1:] == listed[1:]
    assert index == listed
    assert index != listed[:2]
    assert hash(index) == hash(KeyringIndex(table, ["c1" * 8], ["db" * 8]))
    for place in (3, -4):
        with pytest.raises(IndexError):
            index[place]
    lines = SealedLines([(1, b"one"), (4, b""), (7, b"seven")])
    assert dict(lines) == {1: b"one", 4: b"", 7: b"seven"} == lines
    assert (1 in lines, 2 in lines, "1" in lines, 9 in lines) == (True, False, False, False)
    with pytest.raises(KeyError):
        lines[5]
