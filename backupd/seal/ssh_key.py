"""Key pairs for logging in to a store by SSH, as `ssh-keygen -t ed25519 -N ''` makes them."""

from __future__ import annotations

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


class SshKeyPair(NamedTuple):
    """A pair of files' contents: the secret half, and the line for an account's `authorized_keys`."""

    secret: bytes
    public: str


def new_ssh_key(comment: str) -> SshKeyPair:
    """Make a key pair without a passphrase; `comment` says in `authorized_keys` whose it is."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return SshKeyPair(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()), f"{public} {comment}")
