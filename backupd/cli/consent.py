"""The question that somebody at a terminal answers before something is removed for good. Programs are not asked."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from backupd.errors import RefusedError

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal, where it asks before it removes.")]


def is_asked(*, yes: bool) -> bool:
    """Say whether there is somebody to ask: standard input is a terminal, and `--yes` was not given."""
    return not yes and sys.stdin.isatty()


def require_consent(question: str) -> None:
    """Ask on standard error. Raises RefusedError for any answer but a yes, also for none."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError("nobody agreed; nothing was changed", hint="Answer with y, or give --yes.")
