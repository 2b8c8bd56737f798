"""Hash commands a store's shell may have, and how their output is read. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LENGTHS = {"sha256": 64, "sha1": 40, "md5": 32}


@dataclass(frozen=True, slots=True)
class HashCommand:
    """A command that prints the digest of the file it is given."""

    command: str
    algorithm: str


CANDIDATES = (
    HashCommand("sha256sum", "sha256"),
    HashCommand("sha256", "sha256"),
    HashCommand("sha1sum", "sha1"),
    HashCommand("sha1", "sha1"),
    HashCommand("md5sum", "md5"),
    HashCommand("md5", "md5"),
)
"""GNU and BSD names, the strongest first. The weak ones still tell damage, which is what they are asked for."""


def parse_digest(output: bytes, algorithm: str) -> str | None:
    """The digest in the output of such a command; None when there is none.

    Only at its place in the line: our object names are digests too, and a command that merely repeats the name must
    not pass for one that read the file.
    """
    digest = rf"([0-9a-f]{{{_LENGTHS[algorithm]}}})"
    text = output.decode("utf-8", "replace").strip()
    found = re.fullmatch(rf"\\?{digest} [ *].*|{algorithm} \(.*\) = {digest}|{digest}", text, re.IGNORECASE)
    return next((group.lower() for group in found.groups() if group), None) if found else None
