"""The program: command line in, exit status out. Signals and errors end here; everything else is in `commands`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, NoReturn, TextIO

import backupd
from backupd.allocator import restrain
from backupd.errors import InterruptedRunError, UsageError


def run() -> NoReturn:
    """Run the command line of this process, and end with its exit status: the console script `backupd`."""
    _open_streams()
    restrain()
    # A short command makes a hundred thousand objects while it is imported; looking through them took a tenth of it.
    gc.set_threshold(50_000)
    # Nobody's plugin looks into the configuration, and finding that there is none takes 12 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    status = _settled(main(sys.argv[1:]))
    # The interpreter looks through all of them once more before it ends: a quarter of what a backup of nothing takes.
    gc.freeze()
    sys.exit(status)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status, one of errors.EXIT_CODES."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # Sent when a terminal is closed or its SSH connection ends; `nohup` has it ignored, and means it.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        # Nothing else is imported for this one: scripts and health checks ask for it often.
        if list(arguments) == ["--version"]:
            sys.stdout.write(f"backupd {backupd.__version__}\n")
            sys.stdout.flush()
            return 0
        return _run(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, InterruptedRunError) as error:  # noqa: BLE001 - the one place where every failure becomes an exit status
        return _report(error, as_json="--json" in arguments)


def _report(error: BaseException, *, as_json: bool) -> int:
    """Print the failure and return its exit status."""
    from backupd.cli import output
    from backupd.cli.machine import named

    lost = _drained(sys.stdout)
    error = named(error) if lost is None or isinstance(error, InterruptedRunError) else output.unwritten(lost)
    try:
        return output.report(error, as_json=as_json)
    except OSError:  # nobody hears it: the terminal is gone, too
        return output.exit_code(error)


def _open_streams() -> None:
    """Have the three standard streams open.

    What is opened next would get the number of a closed one, and what is printed would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the least number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _settled(status: int) -> int:
    """Write out what was printed; return the exit status, which is not 0 where standard output was not written."""
    lost, _ = [_drained(stream) for stream in (sys.stdout, sys.stderr)]
    return status or int(lost is not None)


def _drained(stream: TextIO) -> OSError | None:
    """Write out what was printed to a stream. Where that fails it is dropped, and the error is returned."""
    try:
        stream.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


def _run(arguments: Sequence[str]) -> int:
    import logging

    import typer

    from backupd.cli import application, supervised

    # What libraries log may quote rows; everything that matters arrives as an error.
    logging.getLogger().addHandler(logging.NullHandler())
    supervised.die_with_the_daemon(os.environ)
    try:
        result = application.build()(list(arguments) or ["--help"], prog_name="backupd", standalone_mode=False)
    except typer.TyperException as error:
        raise _usage_error(error) from error
    sys.stdout.flush()
    if not arguments:
        return UsageError.exit_code
    return result if isinstance(result, int) else 0


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind through every `finally`; a second signal is not caught, for somebody who cannot wait."""
    signal.signal(number, signal.SIG_DFL)
    name = signal.Signals(number).name
    raise InterruptedRunError(
        f"stopped by {name}", hint="What was published stays valid; run the same command again to go on from there."
    )


def _usage_error(error: Exception) -> UsageError:
    """Return Typer's complaint in our words; what Typer raises at an end of input has no words of its own."""
    describe = getattr(error, "format_message", None)
    message = describe() if describe else "the input ended before it was complete"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "backupd"
    hint = f"`{command} --help` explains it."
    if hasattr(error, "possibilities") and context and any(one.name == "tenant" for one in _arguments(context)):
        hint = f"`--` goes before a tenant's name that begins with a dash, behind all options; {hint}"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=hint)


def _arguments(context: Any) -> list[Any]:
    return [one for one in context.command.params if one.param_type_name == "argument"]
