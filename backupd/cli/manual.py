"""The parts of the help texts that are computed, so that they cannot disagree with the program."""

from __future__ import annotations

from backupd.errors import EXIT_CODES


def exit_statuses() -> str:
    """The table of exit statuses that closes every help text; `\\b` keeps its lines apart."""
    rows = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
    return f"\b\nExit status:\n{rows}"
