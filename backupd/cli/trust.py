"""Saying whom we believe."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING

from backupd.cli.output import print_lines

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.wiring import Wiring


def tell_signers(wiring: Wiring, repository: Repository) -> None:
    """Where nobody is trusted by configuration, say on standard error whom we believe instead (FORMAT.md §3)."""
    if wiring.trusted() is None:
        prints = sorted(hashlib.sha256(bytes.fromhex(key)).hexdigest()[:16] for key in repository.signers)
        print_lines([f"note: believing the signers that the repository names: {', '.join(prints)}"], sys.stderr)
