"""The cryptography that FORMAT.md names, and nothing more: the only module that imports `cryptography`.

All functions take and return bytes; the callers decide what is sealed to whom, and under which label.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from backupd.model.ids import Fingerprint

Buffer = bytes | bytearray | memoryview

SECRET_SIZE = 96
PUBLIC_SIZE = 1216
ENCAPSULATION_SIZE = 1120
TAG_SIZE = 16
SEAL_OVERHEAD = ENCAPSULATION_SIZE + TAG_SIZE
KEY_SIZE = 32
NONCE_SIZE = 12

_SEED_SIZE = 64
_ENCAPSULATION_KEY_SIZE = 1184
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def nonce(place: int) -> bytes:
    """Return the nonce for the number `place`, which must be used only once with the same key."""
    return place.to_bytes(NONCE_SIZE, "big")


class NotAuthenticError(Exception):
    """The bytes were not sealed with this key for this place. Callers name the object in an error of their own."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A key pair of the KEM MLKEM768-X25519: an identity is the secret half, a recipient the public one."""

    secret: bytes = field(repr=False)
    public: bytes = field(repr=False)


def generate() -> KeyPair:
    """Generate a key pair from the operating system's randomness."""
    post_quantum = mlkem.MLKEM768PrivateKey.generate()
    classic = x25519.X25519PrivateKey.generate()
    return KeyPair(
        secret=post_quantum.private_bytes_raw() + classic.private_bytes_raw(),
        public=post_quantum.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw(),
    )


def public_of(secret: bytes) -> bytes:
    """Return the public half of `secret`.

    Raises ValueError when it is not a secret half.
    """
    post_quantum, classic = _secret_halves(secret)
    return post_quantum.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw()


def seal(public: bytes, info: bytes, message: bytes) -> bytes:
    """Seal a message as `Seal(public, info, message)` of FORMAT.md §5; the result is `SEAL_OVERHEAD` bytes longer.

    Raises ValueError when `public` is not a public half.
    """
    if len(public) != PUBLIC_SIZE:
        raise ValueError("a public key is 1216 bytes")
    key = hpke.MLKEM768X25519PublicKey(
        mlkem.MLKEM768PublicKey.from_public_bytes(public[:_ENCAPSULATION_KEY_SIZE]),
        x25519.X25519PublicKey.from_public_bytes(public[_ENCAPSULATION_KEY_SIZE:]),
    )
    return _SUITE.encrypt(message, key, info)


def unseal(secret: bytes, info: bytes, sealed: bytes) -> bytes:
    """Open what `seal` returned.

    Raises NotAuthenticError when it was sealed to another key, under another label, or changed.
    """
    if len(sealed) < SEAL_OVERHEAD:
        raise NotAuthenticError
    try:
        return _SUITE.decrypt(sealed, _expanded(secret), info)
    except (InvalidTag, ValueError) as error:
        raise NotAuthenticError from error


@functools.lru_cache(maxsize=64)
def _expanded(secret: bytes) -> hpke.MLKEM768X25519PrivateKey:
    # Expanding the seed takes as long as opening, and a generation's keyrings are opened one after another.
    return hpke.MLKEM768X25519PrivateKey(*_secret_halves(secret))


def fingerprint(public: bytes) -> Fingerprint:
    """Return the first 32 hex digits of SHA-256 of a recipient's public key."""
    return Fingerprint(hashlib.sha256(public).hexdigest()[:32])


def signer_fingerprint(public_hex: str) -> str:
    """Return the text by which users recognize a signer: the first 16 hex digits of SHA-256 of its 32 key bytes."""
    return hashlib.sha256(bytes.fromhex(public_hex)).hexdigest()[:16]


def sign(secret: bytes, message: bytes) -> bytes:
    """Sign a message with an Ed25519 secret of 32 bytes; the signature has 64."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(secret).sign(message)


def signer_public(secret: bytes) -> bytes:
    """Return the public half of an Ed25519 secret of 32 bytes."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def signed_by(public: bytes, signature: bytes, message: bytes) -> bool:
    """Check an Ed25519 signature of a message; a key or signature of a wrong form is not right either."""
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def stretch(passphrase: bytes, salt: bytes, *, n: int, r: int, p: int) -> bytes:
    """Derive a key of 32 bytes from a passphrase by scrypt, which takes `128 · n · r` bytes of memory."""
    return Scrypt(salt=salt, length=KEY_SIZE, n=n, r=r, p=p).derive(passphrase)


class Aead:
    """AES-256-GCM under one key. The caller must use every nonce only once."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError("a key is 32 bytes")
        self._key = key

    def seal(self, nonce: bytes, plain: Buffer, aad: bytes) -> bytes:
        """Encrypt and authenticate `plain`, and authenticate `aad` with it; 16 bytes longer than `plain`."""
        # A cipher takes a microsecond to make and 2.5 KB to keep, and there may be thousands of open sections.
        return AESGCM(self._key).encrypt(nonce, plain, aad)

    def open(self, nonce: bytes, sealed: Buffer, aad: bytes) -> bytes:
        """Open sealed bytes, and return the plain text.

        Raises NotAuthenticError.
        """
        try:
            return AESGCM(self._key).decrypt(nonce, sealed, aad)
        except (InvalidTag, ValueError) as error:
            raise NotAuthenticError from error


def _secret_halves(secret: bytes) -> tuple[mlkem.MLKEM768PrivateKey, x25519.X25519PrivateKey]:
    if len(secret) != SECRET_SIZE:
        raise ValueError("a secret key is 96 bytes")
    return (
        mlkem.MLKEM768PrivateKey.from_seed_bytes(secret[:_SEED_SIZE]),
        x25519.X25519PrivateKey.from_private_bytes(secret[_SEED_SIZE:]),
    )
