"""Key pairs for logging in to a store."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from backupd.seal.ssh_key import new_ssh_key


def test_the_halves_of_a_new_key_belong_together() -> None:
    """OpenSSH reads both, without a passphrase; the comment says whose the key is; no two are the same."""
    pair = new_ssh_key("backupd@zurich")
    kind, blob, comment = pair.public.split(" ")
    assert (kind, comment, base64.b64decode(blob)[4:15]) == ("ssh-ed25519", "backupd@zurich", b"ssh-ed25519")
    secret = load_ssh_private_key(pair.secret, None)
    signature = secret.sign(b"hello")
    load_ssh_public_key(pair.public.encode()).verify(signature, b"hello")
    assert new_ssh_key("backupd@zurich").public != pair.public


def test_the_secret_half_has_no_passphrase() -> None:
    """A daemon could not be asked for one."""
    with pytest.raises(TypeError, match="not encrypted"):
        load_ssh_private_key(new_ssh_key("x").secret, b"a passphrase")
