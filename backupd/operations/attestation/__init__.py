"""The deletion attestation: issued from what was just observed, signed by a second hand, verified without a store."""

from backupd.operations.attestation.checking import Verdict, verify_attestation
from backupd.operations.attestation.issuing import Issued, attest
from backupd.operations.attestation.signing import countersign

__all__ = ["Issued", "Verdict", "attest", "countersign", "verify_attestation"]
