"""The program: command line in, exit status out. Signals and errors end here; everything else is in `commands`."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import typer

from backupd.allocator import restrain
from backupd.cli import failures, supervised
from backupd.errors import InterruptedRunError, UsageError


def run() -> NoReturn:
    """The console script."""
    restrain()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status, one of errors.EXIT_CODES."""
    from backupd.cli.application import build

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # What libraries log may quote rows; whatever matters arrives as an error.
    logging.getLogger().addHandler(logging.NullHandler())
    as_json = "--json" in arguments
    try:
        supervised.die_with_the_daemon(os.environ)
        result = build()(list(arguments) or ["--help"], prog_name="backupd", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return failures.report(_usage_error(error), as_json=as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, InterruptedRunError) as error:  # noqa: BLE001 - the one place where every failure becomes an exit status
        return failures.report(error, as_json=as_json)
    if not arguments:
        return UsageError.exit_code
    return result if isinstance(result, int) else 0


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind through every `finally`; a second signal is not caught, for whoever cannot wait."""
    signal.signal(number, signal.SIG_DFL)
    name = signal.Signals(number).name
    raise InterruptedRunError(
        f"stopped by {name}", hint="What was published stays valid; run the same command again to go on from there."
    )


def _usage_error(error: typer.TyperException) -> UsageError:
    """Typer's complaint in our words; what it raises at an end of input says nothing itself."""
    describe = getattr(error, "format_message", None)
    message = describe() if describe else "the input ended before it was complete"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "backupd"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=f"`{command} --help` explains it.")
