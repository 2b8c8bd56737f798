"""Signed documents, FORMAT.md §3 and §13: a body line and a line of signatures over exactly its bytes.

Some documents are signed by several keys: every signature can be checked, and one more added.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from backupd.errors import DamageError, RefusedError
from backupd.model.text import UnreadableError, from_json
from backupd.seal import suite

FORMAT: Final = 2
FEATURES: Final[frozenset[str]] = frozenset()
"""Features of the format that this program knows; a document that needs another one is refused."""

MIB: Final = 1 << 20
LIMITS: Final = {
    "repository": MIB,
    "snapshot": 16 * MIB,
    "keyring": 16 * MIB,
    "ledger": 16 * MIB,
    "attestation": 16 * MIB,
    "report": MIB,
    "lease": 64 << 10,
}
"""Upper limit of the size of a document of each kind, in bytes."""
SIGNATURES_LIMIT: Final = 64 << 10
"""Upper limit of the line of signatures, in bytes: nobody signed it, and it is taken apart before anything is known."""


class _Head(msgspec.Struct, frozen=True):
    kind: str
    format: int
    features: list[str]


class Signature(msgspec.Struct, frozen=True):
    """One signature of a document: the signer's public key in hex, and the signature in base64."""

    key: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    signature: str


class Signatures(msgspec.Struct, frozen=True):
    """The second line of a document: its signatures."""

    signatures: list[Signature]


class Signer:
    """The Ed25519 key of a writer or keeper, for signing."""

    __slots__ = ("_secret", "public")

    def __init__(self, secret: bytes) -> None:
        """Take the key whose seed is `secret`, 32 bytes."""
        self._secret = secret
        self.public = suite.signer_public(secret).hex()

    def sign(self, body: bytes, kind: str) -> bytes:
        """Sign a body, and return both lines of the document."""
        return join_document(body, [self.signature(body, kind)])

    def signature(self, body: bytes, kind: str) -> Signature:
        """Sign the body of a document of this kind, and return the signature only."""
        return Signature(self.public, base64.b64encode(suite.sign(self._secret, signed_text(body, kind))).decode())


def join_document(body: bytes, signatures: Sequence[Signature]) -> bytes:
    """Join a body and its signatures to the two lines of a document."""
    return b"%b\n%b\n" % (body, msgspec.json.encode(Signatures(list(signatures))))


def read_document(data: bytes, kind: str, trusted: Collection[str], where: str) -> bytes:
    """Return the body line of a document of this `kind` that one of the `trusted` signers (hex) signed.

    Raises DamageError naming `where`, and RefusedError for a format or feature this program does not know.
    """
    check_size(len(data), kind, where)
    return read_signed(*two_lines(data, where), kind, trusted, where)


def two_lines(data: bytes, where: str) -> tuple[bytes, bytes]:
    """Split a document into body and signatures.

    Raises DamageError when it is not of that form.
    """
    # No further than matters: nobody signed this yet, and a million lines take twenty times their bytes.
    lines = data.split(b"\n", 3)
    if len(lines) != 3 or lines[2]:
        raise DamageError(f"'{where}' is not a document of two lines")
    return lines[0], lines[1]


def read_signed(body: bytes, signatures: bytes, kind: str, trusted: Collection[str], where: str) -> bytes:
    """Do as `read_document` does, for the first two lines of a file that has more lines."""
    claims = _signatures(signatures, where)
    known = [claim for claim in claims if claim.key in trusted]
    if not known:
        believed = "trust.keepers" if kind in _OF_KEEPERS else "trust.signers"
        signers = ", ".join(suite.signer_fingerprint(c.key) for c in claims[:8]) or "nobody"
        raise DamageError(
            f"'{where}' is not signed by a trusted signer, but by {signers}",
            hint=f"If that is yours, as a new node's is, add its public key to {believed} in the configuration, on "
            "every machine that reads.",
        )
    message = signed_text(body, kind)
    if not any(suite.signed_by(bytes.fromhex(c.key), decode_base64(c.signature, where), message) for c in known):
        raise DamageError(f"the signature of '{where}' is wrong")
    _check_head(body, kind, where)
    return body


_OF_KEEPERS = frozenset({"ledger", "attestation", "report", "lease"})
"""The kinds of documents that keepers sign; writers sign all others."""


def check_size(size: int, kind: str, where: str) -> None:
    """Check the size of a document, in bytes, against the limit of its kind.

    Raises DamageError when it is larger.
    """
    if size > LIMITS[kind]:
        raise DamageError(f"'{where}' is larger than the {LIMITS[kind]} bytes allowed for it")


def check_format(number: int, where: str) -> None:
    """Check that `where` is written in a format that this program reads.

    Raises RefusedError when it is not.
    """
    if number != FORMAT:
        raise RefusedError(f"'{where}' is written in format {number}", hint=f"This program reads format {FORMAT}.")


def decode_base64(text: str, where: str) -> bytes:
    """Decode base64; only the one canonical text of the bytes is accepted.

    Raises DamageError naming `where`.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DamageError(f"'{where}' holds base64 that cannot be read") from error
    if base64.b64encode(data) != text.encode():
        raise DamageError(f"'{where}' holds base64 that cannot be read")
    return data


def _check_head(body: bytes, kind: str, where: str) -> None:
    try:
        head = from_json(body, _Head)
    except UnreadableError as error:
        raise DamageError(f"'{where}' is not a readable document") from error
    check_format(head.format, where)
    if head.kind != kind:
        raise DamageError(f"'{where}' is a document of another kind")
    check_features(head.features, where)


def check_features(features: Iterable[str], where: str) -> None:
    """Check that this program knows all features that `where` uses.

    Raises RefusedError when it does not.
    """
    unknown = sorted(set(features) - FEATURES)
    if unknown:
        raise RefusedError(
            f"'{where}' uses features this program does not know: {', '.join(unknown)}",
            hint="A newer backupd wrote it; use that one to read it.",
        )


def signed_text(body: bytes, kind: str) -> bytes:
    """Return the bytes that a signature covers."""
    return b"backupd/2 " + kind.encode() + b"\n" + body


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature of a document, and whether it is good."""

    key: str
    """The signer's public key, 64 hex digits."""
    good: bool

    @property
    def fingerprint(self) -> str:
        return suite.signer_fingerprint(self.key)


def signatures_of(document: bytes, kind: str, where: str) -> list[Signed]:
    """Return every signature in the document's order, good or not; whose the keys are is not checked.

    Raises DamageError when the document is not of the form.
    """
    body, claims = _claims(document, kind, where)
    message = signed_text(body, kind)
    return [
        Signed(claim.key, suite.signed_by(bytes.fromhex(claim.key), decode_base64(claim.signature, where), message))
        for claim in claims
    ]


def with_signature(document: bytes, signer: Signer, kind: str, where: str) -> bytes:
    """Return the document with one more signature; its body stays as it is, and a signer signs only once.

    Raises RefusedError when one of the present signatures is wrong: nobody should put their name beside it.
    """
    if not all(signed.good for signed in signatures_of(document, kind, where)):
        raise RefusedError(
            f"a signature of '{where}' is wrong", hint="Get the file again from where it was issued; do not sign it."
        )
    body, claims = _claims(document, kind, where)
    if any(claim.key == signer.public for claim in claims):
        return document
    # Sorted behind the first, so that it does not matter who of two signs before the other.
    others = sorted([*claims[1:], signer.signature(body, kind)], key=lambda claim: claim.key)
    return join_document(body, [*claims[:1], *others])


def signed_alone(document: bytes, key: str, kind: str, where: str) -> bytes:
    """Return the document with the signature of `key` only, as that signer issued it.

    Raises DamageError when that signature is missing or wrong.
    """
    body = read_document(document, kind, {key}, where)
    _, claims = _claims(document, kind, where)
    return join_document(body, [claim for claim in claims if claim.key == key][:1])


def _claims(document: bytes, kind: str, where: str) -> tuple[bytes, list[Signature]]:
    check_size(len(document), kind, where)
    body, line = two_lines(document, where)
    return body, _signatures(line, where)


def _signatures(line: bytes, where: str) -> list[Signature]:
    if len(line) > SIGNATURES_LIMIT:
        raise DamageError(f"the signatures of '{where}' take more than the {SIGNATURES_LIMIT} bytes allowed for them")
    try:
        return from_json(line, Signatures).signatures
    except UnreadableError as error:
        raise DamageError(f"'{where}' has no readable signature") from error
