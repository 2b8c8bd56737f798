"""Keyrings and identity files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from backupd.errors import BackupdError, ConfigError, DamageError, KeyRefusedError, RefusedError
from backupd.model.ids import ClassTag, GenerationId, Pseudonym, RegionName, RepositoryId, RunId, TenantTag
from backupd.model.tenancy import SegmentName
from backupd.seal import suite
from backupd.seal.documents import Signer, check_size
from backupd.seal.keyfiles import Recipient, read_identity, read_recipient, write_identity, write_recipient
from backupd.seal.keyring import (
    KeyringEntry,
    KeyringIds,
    KeyringPieces,
    KeyringWriter,
    Tags,
    parse_keyring,
    render_keyring,
)

RUN = "20300101T000000Z-0a0b0c0d"
IDS = KeyringIds(RepositoryId("0f" * 16), RegionName("be"), GenerationId(RUN), RunId(RUN))
TAGS = Tags(TenantTag("7a" * 16), ClassTag("c1" * 8))
ME, SIGNER = suite.generate(), Signer(bytes(range(32)))
CREATED = "2030-01-01T00:00:00.000000Z"


def some_entries(writer: KeyringWriter, number: int) -> list[KeyringEntry]:
    return [
        writer.add(Pseudonym(f"{at:032x}"), suite.generate(), SegmentName("app", "uploaded", f"tenant {at}"), TAGS)
        for at in range(number)
    ]


def a_keyring(number: int = 2) -> bytes:
    writer = KeyringWriter(IDS, [ME.public], os.urandom(32))
    return render_keyring(IDS, CREATED, writer.pieces, some_entries(writer, number), SIGNER)


def test_every_flipped_bit_is_found_without_a_key() -> None:
    """Signature, index hashes and the wraps' check leave no bit uncovered."""
    data = a_keyring(1)
    parse_keyring(data, [SIGNER.public], "the keyring")
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises(BackupdError, match="the keyring"):
            parse_keyring(bytes(flipped), [SIGNER.public], "the keyring")


def test_a_wrong_identity_is_named_as_wrong() -> None:
    """The message says which recipients would do."""
    stranger = suite.generate()
    keyring = parse_keyring(a_keyring(), [SIGNER.public], "the keyring")
    with pytest.raises(KeyRefusedError, match=suite.fingerprint(stranger.public)) as refusal:
        keyring.open(stranger.secret)
    assert suite.fingerprint(ME.public) in refusal.value.hint


def test_no_tenant_is_readable_in_a_keyring() -> None:
    """Names and secrets are sealed."""
    data = a_keyring()
    assert b"tenant 0" not in data
    assert b"uploaded" not in data


def test_a_later_process_renders_from_plain_values() -> None:
    """What was kept on disk is enough to render; the file key is not among it."""
    writer = KeyringWriter(IDS, [ME.public], bytes(32), random=lambda size: b"\x07" * size)
    entries = some_entries(writer, 3)
    kept = msgspec.json.encode([writer.pieces, entries])
    assert b"\x07" * 32 not in kept
    pieces, again = msgspec.json.decode(kept, type=tuple[KeyringPieces, list[KeyringEntry]])
    data = render_keyring(IDS, CREATED, pieces, again, SIGNER)
    assert len(parse_keyring(data, [SIGNER.public], "it").open(ME.secret).segments) == 3


@pytest.mark.parametrize("chosen", [[0, 2], [1, 0, 2], [1, 2]])
def test_incomplete_entries_are_not_rendered(chosen: list[int]) -> None:
    """A keyring without one of its run's keys would lose that segment for good."""
    writer = KeyringWriter(IDS, [ME.public], bytes(32))
    entries = some_entries(writer, 3)
    with pytest.raises(ValueError, match="not complete"):
        render_keyring(IDS, CREATED, writer.pieces, [entries[at] for at in chosen], SIGNER)


def test_a_keyring_for_nobody_is_refused() -> None:
    """Without a recipient the backup could never be read."""
    with pytest.raises(ValueError, match="needs a recipient"):
        KeyringWriter(IDS, [], bytes(32))


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
