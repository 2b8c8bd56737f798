"""The page of a deletion attestation, with room for two signatures by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from backupd.model.attestation import Attestation
from backupd.model.ids import SHORT_NAME
from backupd.pages.environment import environment, readable

CAUSES: Final = {
    "unsubscribed": "The tenant unsubscribed",
    "erasure-requested": "Erasure was requested",
    "moved": "The tenant moved to another region",
}
_LOOKED_INTO: Final = "store-snapshots-looked-into"
METHODS: Final = {
    "cryptographic-erase": "Cryptographic erase, as NIST SP 800-88 calls it, of single keys and of no medium: from "
    "every keyring on the store the sealed line of each of the tenant's keys was taken out, and each keyring was read "
    "again. The format leaves no way to store anything unsealed; it seals content by AES-256-GCM, and its keys to "
    "ML-KEM-768 with X25519.",
    "sections-taken-out": "Every section of the tenant was taken out of its pack on the store.",
    "absence-listed": "The store was listed again, and no pack on it names a section of the tenant among its own.",
    _LOOKED_INTO: "Each of the store's own snapshots was looked into, where it shows any; none "
    "holds a section or a key of the tenant.",
}
NOT_CLAIMED: Final = {
    "media-sanitization": "That storage media were sanitized by one of the methods that NIST SP 800-88 names Clear, "
    "Purge and Destroy: only a store's operator could say so of its disks. What was written there was sealed.",
    "wrapping-keys": "That the identities were destroyed, which open other tenants' keys, too. Somebody with one, an "
    "older copy of a keyring, and an older copy of a pack from the same time can read what was in it.",
}
NOT_COVERED: Final = {
    "live-database": "The live database, its replicas and its own logs.",
    "node-spools": "The spools of backup nodes: sealed objects on their way, while a run lasts.",
    "node-indexes": "The indexes of backup nodes: keyed hashes of content, public keys, and the sealed keys of a "
    "run whose keyring is not on the store yet.",
    "keyring-copies-elsewhere": "Copies of keyrings that people made elsewhere: only those on the stores listed here, "
    "and in the stores' own snapshots, are known.",
    "store-snapshots-not-shown": "Snapshots and copies that a store's operator keeps without showing them.",
    "retired-stores": "Stores that were declared gone, named above: nobody could look at them again.",
    "declared-copies": "Copies of whole stores that the operator declares, named above: nobody looked at them.",
    "restored-databases": "Databases that were restored or exported while the tenant was still in the backups.",
    "statutory-records": "Records that law asks to be kept, outside the tenant's databases.",
    "other-regions": "Backups in other regions; each region attests its own.",
}


class CheckedSignature(NamedTuple):
    """A signature of the attestation that was checked and is good."""

    key: str
    fingerprint: str
    role: str


def render_attestation(attestation: Attestation, sha256: str, signatures: Sequence[CheckedSignature]) -> str:
    """Render the page of an attestation whose document, as issued, has this SHA-256.

    The caller has checked its signatures: a page proves nothing, it is for people to read and sign.
    """
    return (
        environment()
        .get_template("attestation.html")
        .render(
            one=attestation,
            sha256=sha256,
            signatures=list(signatures),
            observed=min(store.observed for store in attestation.stores),
            absent=max(store.absent for store in attestation.stores),
            cause=CAUSES.get(attestation.cause, attestation.cause),
            methods=_sentences([code for store in attestation.stores for code in store.methods], _methods(attestation)),
            not_claimed=_sentences(attestation.not_claimed, NOT_CLAIMED),
            not_covered=_sentences(attestation.not_covered, NOT_COVERED),
            time=readable,
            short=lambda name: name[:SHORT_NAME],
        )
    )


def _methods(attestation: Attestation) -> dict[str, str]:
    """Return the sentences for methods; that snapshots were looked into is said only where a store shows any."""
    if any(store.snapshots for store in attestation.stores):
        return METHODS
    return {
        **METHODS,
        _LOOKED_INTO: "No store listed here shows snapshots of itself, so that none had to be looked into.",
    }


def _sentences(codes: Sequence[str], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return codes with their sentences, each once; a code that this program does not know is its own sentence."""
    return [(code, known.get(code, code)) for code in dict.fromkeys(codes)]
