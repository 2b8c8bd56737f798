"""Files of keys: what they hold is not taken on trust, and none is overwritten."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from backupd.errors import ConfigError, RefusedError
from backupd.model.ids import RegionName
from backupd.seal import keyfiles, suite
from backupd.seal.keyfiles import Recipient, holds_identity, read_identity, write_identity, write_recipient
from backupd.seal.tags import TenantTags

PAIR = suite.generate()


def test_an_identity_file_with_the_public_half_of_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the passphrase opens it: what was sealed under a wrong label would be."""
    path = tmp_path / "ops.identity"
    other = suite.KeyPair(PAIR.secret, suite.generate().public)
    write_identity(path, "ops", other, "a passphrase")
    with pytest.raises(ConfigError, match="is not a readable identity file"):
        read_identity(path, "a passphrase")


@pytest.mark.parametrize("text", [None, b"", b"{", b"[]", b'{"backupd":1}'])
def test_what_cannot_be_read_is_no_identity(tmp_path: Path, text: bytes | None) -> None:
    """Neither a file that is not there, nor one that is no key's."""
    path = tmp_path / "some"
    if text is not None:
        path.write_bytes(text)
    assert holds_identity(path) is False


def test_identities_and_recipients_are_told_apart(tmp_path: Path) -> None:
    """By what they call themselves."""
    write_recipient(tmp_path / "ops.recipient", Recipient("ops", PAIR.public))
    write_identity(tmp_path / "ops.identity", "ops", PAIR, "a passphrase")
    assert [holds_identity(tmp_path / f"ops.{kind}") for kind in ("recipient", "identity")] == [False, True]
    assert base64.b64decode(json.loads((tmp_path / "ops.identity").read_bytes())["public"]) == PAIR.public


def test_a_secret_is_written_once_and_read_back(tmp_path: Path) -> None:
    """Never over another one, nor where there is no folder; what is not there is named."""
    path, secret = tmp_path / "tenant.key", bytes(range(100, 132))
    keyfiles.write_secret(path, secret)
    assert keyfiles.read_secret(path, "tenant key", "a command") == secret
    with pytest.raises(RefusedError, match="exists"):
        keyfiles.write_secret(path, secret)
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        keyfiles.write_secret(tmp_path / "nowhere" / "tenant.key", secret)
    with pytest.raises(ConfigError, match=r"the tenant key .* cannot be read: No such file"):
        keyfiles.read_secret(tmp_path / "nowhere", "tenant key", "a command")


def test_tags_show_their_region_and_no_key() -> None:
    """In whatever a program may log."""
    assert repr(TenantTags(bytes(range(32)), RegionName("be"))) == "TenantTags(be)"
