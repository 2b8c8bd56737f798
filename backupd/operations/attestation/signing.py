"""The validator's signature, beside the keeper's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.model.stored.attestation import KIND, decode_attestation
from backupd.seal.documents import read_document, two_lines
from backupd.seal.signatures import with_signature

if TYPE_CHECKING:
    from backupd.seal.documents import Signer


def countersign(document: bytes, signer: Signer, where: str) -> bytes:
    """The document with one signature more; its body stays as it is, and a signer signs once.

    Raises DamageError when it is no attestation, or its performer's signature is missing or wrong, and RefusedError
    when another one's is.
    """
    body, _ = two_lines(document, where)
    read_document(document, KIND, {decode_attestation(body, where).performer}, where)
    return with_signature(document, signer, KIND, where)
