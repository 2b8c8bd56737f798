"""The events that operations report while they run: frozen, and few, so that progress bars, logs and tests share them.

Events hold counts, phases and configured labels; never a row, a secret or a tenant's name, because they are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

ASKING = "asking"
"""The phase in which a store is waited for that has not answered yet; its subject is the store's name."""


@dataclass(frozen=True, slots=True)
class PhaseStarted:
    """A phase of a run begins."""

    phase: str
    """A verb a person understands: `reading`, `shipping`, `publishing`, `restoring`, `verifying`, …"""
    subject: str = ""
    """What the phase works on: `region/database label`, a store's name, or empty."""
    total_estimate: int | None = None
    """Bytes (or, when `unit` says so, things) the phase expects to handle; None when nobody knows."""
    unit: str = "bytes"
    """What `Progress.bytes_in` counts in this phase: `bytes`, or a plural noun such as `objects`."""
    quiet: bool = False
    """Whether the phase is shown on a terminal only, and only while it lasts."""
    expected: float | None = None
    """Seconds that the same took the last time; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a phase: totals since it started, never differences, so that a lost event loses nothing."""

    phase: str
    subject: str = ""
    bytes_in: int = 0
    """Plain bytes handled (COPY text read or written, objects read by verify); compared with the estimate."""
    new: int | None = None
    """Of the plain bytes handled, those that no snapshot before had; None in phases that add nothing."""
    sent: int | None = None
    """Sealed bytes that are on the store, which come some seconds behind the plain ones; None as for `new`."""
    rows: int = 0
    objects: int = 0
    total_estimate: int | None = None
    """A better estimate than the one the phase started with; None keeps that one."""


@dataclass(frozen=True, slots=True)
class PhaseDone:
    """The phase ended well."""

    phase: str
    subject: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PhaseFailed:
    """The phase was ended by an error, which is reported by itself: a terminal counts its seconds no further."""

    phase: str
    subject: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a person should look at that does not stop the run."""

    message: str
    """The text, in lower case without a full stop, as errors are."""
    hint: str = ""
    """A full sentence that says what to do."""
    standing: bool = False
    """Whether it is true of a database however often one looks: a command says it once, not for each store."""


PhaseEvent = PhaseStarted | Progress | PhaseDone | PhaseFailed
Event = PhaseEvent | Warned


class Trace(Protocol):
    """A receiver of events: called from any thread, it returns quickly and never raises."""

    def emit(self, event: Event) -> None: ...


class NoTrace:
    """A trace that drops every event: the default where nobody watches."""

    def emit(self, event: Event) -> None:
        pass
