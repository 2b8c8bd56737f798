"""Documents that several sign, FORMAT.md §13: every signature looked at, and one more added."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.errors import DamageError, RefusedError
from backupd.model.jsontext import UnreadableError, from_json
from backupd.seal import suite
from backupd.seal.documents import (
    Signature,
    Signatures,
    Signer,
    check_size,
    decode_base64,
    joined,
    read_document,
    signed_text,
    two_lines,
)


@dataclass(frozen=True, slots=True)
class Signed:
    """One signature of a document."""

    key: str
    """64 hex."""
    good: bool

    @property
    def fingerprint(self) -> str:
        return suite.signer_fingerprint(self.key)


def signatures_of(document: bytes, kind: str, where: str) -> list[Signed]:
    """Every signature, in the document's order, good or not; whose a key is, nobody asked.

    Raises DamageError when the document is not of the form.
    """
    body, claims = _claims(document, kind, where)
    message = signed_text(body, kind)
    return [
        Signed(claim.key, suite.signed_by(bytes.fromhex(claim.key), decode_base64(claim.signature, where), message))
        for claim in claims
    ]


def with_signature(document: bytes, signer: Signer, kind: str, where: str) -> bytes:
    """The document with one signature more; the body is not touched, and a signer signs once.

    Raises RefusedError when one of the signatures it has is wrong: nobody should put their name beside it.
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
    return joined(body, [*claims[:1], *others])


def signed_alone(document: bytes, key: str, kind: str, where: str) -> bytes:
    """The document as `key` issued it, before anybody else signed.

    Raises DamageError when that signature is missing or wrong.
    """
    body = read_document(document, kind, {key}, where)
    _, claims = _claims(document, kind, where)
    return joined(body, [claim for claim in claims if claim.key == key][:1])


def _claims(document: bytes, kind: str, where: str) -> tuple[bytes, list[Signature]]:
    check_size(len(document), kind, where)
    body, line = two_lines(document, where)
    try:
        return body, from_json(line, Signatures).signatures
    except UnreadableError as error:
        raise DamageError(f"'{where}' has no readable signature") from error
