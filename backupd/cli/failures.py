"""What a failure looks like from outside: a sentence or a JSON object, and the exit status."""

from __future__ import annotations

import sys
import traceback
from typing import Any

from backupd.cli.output import print_json, print_lines
from backupd.errors import BackupdError, EndingError

_BUG_HINT = "This is a fault in backupd; report the lines above. They hold no data of yours."


def report(error: BaseException, *, as_json: bool) -> int:
    """Print the failure and return its exit status."""
    if as_json:
        print_json({"error": as_object(error)})
    elif isinstance(error, EndingError):
        print_lines(_lines(error), sys.stderr)
    else:
        print_lines([*_frames(error), f"backupd: internal error: {type(error).__name__}", f"  {_BUG_HINT}"], sys.stderr)
    return exit_code(error)


def print_failure(error: BackupdError, where: str) -> None:
    """One of several failures, with where it happened."""
    print_lines(_lines(error, f"backupd: {where}"), sys.stderr)


def exit_code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, EndingError) else 1


def as_object(error: BaseException) -> dict[str, Any]:
    """The failure as `--json` prints it."""
    if not isinstance(error, EndingError):
        return {
            "kind": "internal",
            "exit_code": 1,
            "message": f"internal error: {type(error).__name__}",
            "hint": _BUG_HINT,
            "retryable": False,
            "frames": _frames(error),
        }
    described = {
        "kind": type(error).__name__.removesuffix("Error"),
        "exit_code": error.exit_code,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
    }
    faults = getattr(error, "faults", None)
    return described if faults is None else {**described, "faults": list(faults)}


def _lines(error: EndingError, prefix: str = "backupd") -> list[str]:
    lines = [f"{prefix}: {error.message}"]
    for fault in getattr(error, "faults", ()):
        place = f"line {fault.line}: " if fault.line else ""
        name = f"{fault.key}: " if fault.key else ""
        lines.append(f"  {place}{name}{fault.message}")
        if fault.hint:
            lines.append(f"    {fault.hint}")
    return [*lines, f"  {error.hint}"] if error.hint else lines


def _frames(error: BaseException) -> list[str]:
    """Where it happened. The message is left out: a foreign exception may quote a row or a secret."""
    return [
        f"  {frame.filename}:{frame.lineno} in {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__, limit=-12)
    ]
