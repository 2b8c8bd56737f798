"""The primitives are the ones FORMAT.md names: checked against a second derivation, step by step."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backupd.seal import suite


def expand(key: bytes, info: bytes, length: int) -> bytes:
    out, block = b"", b""
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([len(out) // 32 + 1]), "sha256")
        out += block
    return out[:length]


def open_by_hand(secret: bytes, info: bytes, sealed: bytes) -> bytes:
    """X-Wing and RFC 9180's key schedule, spelled out."""
    ciphertext, ephemeral = sealed[:1088], sealed[1088:1120]
    classic = X25519PrivateKey.from_private_bytes(secret[64:])
    shared = hashlib.sha3_256(
        MLKEM768PrivateKey.from_seed_bytes(secret[:64]).decapsulate(ciphertext)
        + classic.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        + ephemeral
        + classic.public_key().public_bytes_raw()
        + bytes.fromhex("5c2e2f2f5e5c")
    ).digest()
    prefix = b"HPKE-v1" + b"HPKE" + bytes.fromhex("647a00010002")

    def extract(salt: bytes, label: bytes, key: bytes) -> bytes:
        return hmac.digest(salt or bytes(32), prefix + label + key, "sha256")

    def labeled(label: bytes, length: int) -> bytes:
        return expand(prk, length.to_bytes(2, "big") + prefix + label + context, length)

    context = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    prk = extract(shared, b"secret", b"")
    return AESGCM(labeled(b"key", 32)).decrypt(labeled(b"base_nonce", 12), sealed[1120:], b"")


def test_seal_is_hpke_with_x_wing() -> None:
    """What `seal` makes opens by the textbook, so that somebody else's library can open it too."""
    pair = suite.generate()
    sealed = suite.seal(pair.public, b"some info", b"a message")
    assert open_by_hand(pair.secret, b"some info", sealed) == b"a message"


def test_a_pair_has_the_sizes_and_halves_of_the_format() -> None:
    """Secret and public half are as long as FORMAT.md says, and the second follows from the first."""
    pair = suite.generate()
    assert (len(pair.secret), len(pair.public)) == (96, 1216)
    assert suite.public_of(pair.secret) == pair.public
    assert suite.generate().secret != pair.secret


def test_a_pair_does_not_show_its_secret() -> None:
    """Neither repr nor str of a key pair holds key bytes."""
    pair = suite.generate()
    assert f"{pair!r}{pair}" == "KeyPair()KeyPair()"


@pytest.mark.parametrize("change", ["key", "info", "bit", "cut"])
def test_unseal_refuses_what_was_not_sealed_so(change: str) -> None:
    """Another key, another info, a flipped bit and a cut message do not open."""
    pair = suite.generate()
    sealed = suite.seal(pair.public, b"info", b"message")
    secret = suite.generate().secret if change == "key" else pair.secret
    if change == "bit":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    with pytest.raises(suite.NotAuthenticError):
        suite.unseal(secret, b"x" if change == "info" else b"info", sealed[:-1] if change == "cut" else sealed)


@pytest.mark.parametrize("wrong", [b"", b"x" * 95, b"x" * 1216])
def test_keys_of_wrong_length_are_refused(wrong: bytes) -> None:
    """A key that is none is an error of the caller, not of the data."""
    with pytest.raises(ValueError, match="key is"):
        suite.public_of(wrong)
    with pytest.raises(ValueError, match="key is"):
        suite.seal(wrong + b"y", b"", b"")
    with pytest.raises(ValueError, match="key is"):
        suite.Aead(wrong)
