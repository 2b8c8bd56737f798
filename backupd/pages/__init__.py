"""Pages to read and print: one HTML file each, with nothing in it that is fetched from elsewhere."""

from backupd.pages.attestation import render_attestation

__all__ = ["render_attestation"]
