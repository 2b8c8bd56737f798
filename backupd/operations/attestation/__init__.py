"""The deletion attestation: issued from what was just observed, countersigned by a second person, and verified without
a store.
"""

from backupd.operations.attestation.files import countersign
from backupd.operations.attestation.issue import Issued, attest
from backupd.operations.attestation.verify import Verdict, verify_attestation

__all__ = [
    "Issued",
    "Verdict",
    "attest",
    "countersign",
    "verify_attestation",
]
