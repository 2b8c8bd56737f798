"""Pages to read and print: one HTML file each, with nothing in it that is fetched from elsewhere."""

from backupd.pages.attestation import Signature, render_attestation

__all__ = ["Signature", "render_attestation"]
