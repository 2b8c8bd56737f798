"""The meter of one phase under way: how far it is, how fast in the last seconds, and how long it will still take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from backupd.model.text import counted, human_bytes, human_duration
from backupd.trace import PhaseStarted, Progress

WINDOW = 10.0
"""Seconds over which a rate is taken: what a phase did an hour ago says nothing of how fast it is."""
_APART = 1.0
"""Seconds between two samples."""


@dataclass(frozen=True, slots=True)
class Meter:
    """The state of one phase."""

    started: PhaseStarted
    since: float
    """Monotonic seconds when the phase began."""
    progress: Progress
    samples: tuple[tuple[float, int], ...] = ()
    """Times in the window, each with what was done by then; oldest first."""
    heard: float = 0.0
    """When the phase last got further."""

    @property
    def name(self) -> str:
        """Return the phase with its subject."""
        return " ".join(part for part in (self.started.phase, self.started.subject) if part)

    @property
    def total(self) -> int | None:
        """Return the estimate of all that the phase has to do, in its unit; None where there is none."""
        better = self.progress.total_estimate
        return better if better is not None else self.started.total_estimate

    def with_progress(self, progress: Progress, now: float) -> Meter:
        """Return the meter after a later progress; an estimate once given is kept until a better one comes."""
        estimate = progress.total_estimate if progress.total_estimate is not None else self.progress.total_estimate
        moved = (progress.bytes_in, progress.sent) != (self.progress.bytes_in, self.progress.sent)
        return replace(
            self,
            progress=replace(progress, total_estimate=estimate),
            samples=self._sampled(progress.bytes_in, now),
            heard=now if moved else self.heard,
        )

    def rate(self, now: float) -> float | None:
        """Return how much was done a second in the last seconds; None before there is anything to say."""
        began, done = self._first(now)
        return (self.progress.bytes_in - done) / (now - began) if now > began else None

    def _sampled(self, done: int, now: float) -> tuple[tuple[float, int], ...]:
        kept = self.samples or ((self.since, 0),)
        if now - kept[-1][0] < _APART:
            return kept
        recent = [one for one in kept if one[0] >= now - WINDOW]
        return (*(recent or kept[-1:]), (now, done))

    def _first(self, now: float) -> tuple[float, int]:
        """Return the oldest sample of the window, or the newest one before it."""
        kept = self.samples or ((self.since, 0),)
        return next((one for one in kept if one[0] >= now - WINDOW), kept[-1])


def describe(meter: Meter, now: float, *, ended: bool = False, width: int | None = None) -> str:
    """Return text such as `56 % of 742 MB, 45 MB/s, 60.1 MB new, 20.3 MB sent, 14 s left`; unknown parts are left out.

    A phase that has counted nothing, and does not know how much there is, shows how long it takes. With a `width`,
    the parts that matter least are left out until the others fit.
    """
    done, total, seconds = meter.progress.bytes_in, None if ended else meter.total, now - meter.since
    waited = now - meter.heard
    if not done and not meter.progress.sent and total is None:
        return f"for {human_duration(timedelta(seconds=seconds))}"
    parts = {"share": _share(meter, done, total)}
    if meter.started.unit == "bytes" and done and seconds > 0:
        rate = done / seconds if ended else meter.rate(now)
        if rate is not None:
            parts["rate"] = f"{human_bytes(rate)}/s"
    for name, size in (("new", meter.progress.new), ("sent", meter.progress.sent)):
        if size:
            parts[name] = f"{human_bytes(size)} {name}"
    if not ended and waited > WINDOW:
        parts["waited"] = f"nothing for {human_duration(timedelta(seconds=round(waited)))}"
    elif (left := _left(meter, done, total, seconds)) is not None:
        parts["left"] = f"{_remaining(left)} left"
    return _fitted(parts, width)


def _left(meter: Meter, done: int, total: int | None, seconds: float) -> float | None:
    """Return the seconds that are left: by what the same took the last time, else by how it went so far."""
    if total is None or not total or done >= total:
        return None
    share, expected = done / total, meter.started.expected
    if expected is not None and seconds <= expected:
        return (1 - share) * expected
    return seconds * (1 - share) / share if done and seconds > 0 else None


def _fitted(parts: dict[str, str], width: int | None) -> str:
    kept = dict(parts)
    for least in ("sent", "new", "rate"):
        if width is None or len(", ".join(kept.values())) <= width:
            break
        kept.pop(least, None)
    return ", ".join(kept.values())


def _share(meter: Meter, done: int, total: int | None) -> str:
    shown = done if total is None else total
    unit = meter.started.unit
    amount = human_bytes(shown) if unit == "bytes" else counted(shown, unit.removesuffix("s"))
    return f"{min(99, 100 * done // total)} % of {amount}" if total else amount


def _remaining(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 59.5 else human_duration(timedelta(seconds=seconds))
