"""Programs of the operator that run around a region's backup: each with a deadline, and without secrets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from backupd.errors import BackupdError

_GRACE: Final = 5.0
"""Seconds that a hook has to end by itself when its time is over."""
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "HOME")
"""Variables of our environment that a hook gets."""
_STANDARD_ERROR: Final = 2


class HookEvent(StrEnum):
    """The moments at which a hook runs, by the keys of the configuration."""

    BEFORE = "run_before"
    AFTER = "run_after"
    FAILURE = "run_on_failure"


@dataclass(frozen=True, slots=True)
class Hook:
    """A program to run at one moment."""

    event: HookEvent
    arguments: tuple[str, ...]
    """The program by its absolute path, and its arguments; no shell reads them."""
    deadline: float
    """Seconds that it may take."""


def run_hook(
    hook: Hook, region: str, environment: Mapping[str, str], status: int | None = None, grace: float = _GRACE
) -> None:
    """Run a hook to its end; what it prints goes to standard error.

    It gets a few variables of `environment`, and the event, the region and the exit `status` so far as BACKUPD_EVENT,
    BACKUPD_REGION and BACKUPD_EXIT_STATUS. Raises BackupdError when it cannot be started, fails, or takes longer than
    its deadline; then it and all that it started are ended, as when this process is interrupted.
    """
    given = {name: environment[name] for name in _KEPT if name in environment}
    given |= {"BACKUPD_EVENT": hook.event.value, "BACKUPD_REGION": region}
    if status is not None:
        given["BACKUPD_EXIT_STATUS"] = str(status)
    name = f"{hook.event} of region '{region}'"
    try:
        process = subprocess.Popen(
            hook.arguments,
            stdin=subprocess.DEVNULL,
            stdout=_STANDARD_ERROR,
            stderr=_STANDARD_ERROR,
            env=given,
            cwd="/",
            process_group=0,
        )
    except OSError as error:
        raise BackupdError(
            f"{name} cannot be started: {error.strerror}", hint=f"Check {hook.arguments[0]}, its owner and mode."
        ) from None
    try:
        ended = process.wait(timeout=hook.deadline)
    except subprocess.TimeoutExpired:
        _end(process, grace)
        raise BackupdError(
            f"{name} did not end within {hook.deadline:g} s, and was ended",
            hint="Have it take less time, or set a longer hooks.deadline.",
        ) from None
    except BaseException:
        _end(process, grace)
        raise
    if ended:
        how = f"was ended by {signal.Signals(-ended).name}" if ended < 0 else f"ended with status {ended}"
        raise BackupdError(f"{name} {how}", hint="What it printed stands above, or in the journal.")


def _end(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a hook and its process group: ask, and then kill."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=grace)
