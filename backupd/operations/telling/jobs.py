"""Runs as facts: the last one of a job, and the ones before it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from backupd.model.status import JobFacts
from backupd.operations.service.told import WELL, JobDone, JobOutcome

_RUNS = 60


def of_runs(runs: Sequence[JobDone]) -> JobFacts | None:
    """The facts of one job's runs, oldest first; None when there are none."""
    facts: JobFacts | None = None
    for done in runs:
        facts = after(facts, done)
    return facts


def after(before: JobFacts | None, done: JobDone) -> JobFacts:
    """The facts after one more run."""
    first = done.failures[0] if done.failures else None
    well = done.outcome in WELL
    run = (done.started, done.seconds, done.outcome.value)
    return JobFacts(
        kind=done.key.kind.value,
        started=done.started,
        ended=done.ended,
        outcome=done.outcome.value,
        well=well,
        seconds=done.seconds,
        attempt=done.attempt,
        failure=first.kind if first else "",
        message=first.message if first else "",
        hint=first.hint if first else "",
        final=not well and done.retry_at is None and done.outcome is not JobOutcome.BUSY,
        good=done.started if well else before.good if before else None,
        next_at=done.retry_at or done.next_at,
        runs=(*(before.runs if before else ()), run)[-_RUNS:],
    )


def remembered(facts: JobFacts) -> JobFacts:
    """Of a daemon that ran before: whether it was going to try again, nobody knows, but for what is never tried."""
    return msgspec.structs.replace(facts, final=facts.outcome == JobOutcome.REFUSED, next_at=None)
