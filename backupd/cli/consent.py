"""The question that somebody at a terminal answers before what cannot be undone is done. Programs are not asked."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.output import print_prose
from backupd.cli.progress import paused
from backupd.errors import RefusedError

if TYPE_CHECKING:
    from backupd.trace import Trace

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal, where it asks before it changes.")]


def is_asked(*, yes: bool) -> bool:
    """Say whether there is somebody to ask: standard input is a terminal, and `--yes` was not given."""
    return not yes and sys.stdin.isatty()


def show_and_ask(lines: Iterable[object], question: str, trace: Trace | None = None) -> None:
    """Print on standard error what would be done, and ask. Raises RefusedError for any answer but a yes.

    `trace` is what draws on the terminal meanwhile, if anything does.
    """
    with paused(trace):
        print_prose((line for line in lines if isinstance(line, str)), sys.stderr)
        require_consent(question)


def require_consent(question: str) -> None:
    """Ask on standard error. Raises RefusedError for any answer but a yes, also for none."""
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise RefusedError("nobody agreed; nothing was changed", hint="Answer with y, or give --yes.")
