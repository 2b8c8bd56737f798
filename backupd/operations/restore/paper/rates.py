"""How fast restores on this machine were, kept for the next one's expected time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backupd.model.jsontext import UnreadableError, from_json

if TYPE_CHECKING:
    from pathlib import Path

    from backupd.operations.restore.values import RestoreReport

_LEAST = 1 << 20
"""Bytes of rows below which a restore says nothing of rates."""


class Rates(msgspec.Struct, frozen=True):
    """Of the last restore that was large enough to tell."""

    seconds_per_byte: float
    """Of COPY text: loading, indexing and all else that grows with the rows."""
    fixed: float
    """Seconds that do not: planning, the schema, the final name."""

    def expected(self, size: int) -> float:
        """Seconds for so many bytes of COPY text, planning left out."""
        return self.fixed + size * self.seconds_per_byte


def rates_of(report: RestoreReport) -> Rates | None:
    """What a restore says of rates; None when it was too small."""
    if report.bytes < _LEAST:
        return None
    phases = dict(report.phases)
    growing = sum(phases.get(name, 0.0) for name in ("loading", "indexing", "refreshing", "analyzing"))
    fixed = sum(phases.get(name, 0.0) for name in ("schema", "roles", "publishing"))
    return Rates(growing / report.bytes, fixed)


def read_rates(path: Path) -> Rates | None:
    """What was kept, if anything can be read."""
    try:
        return from_json(path.read_bytes(), Rates)
    except (OSError, UnreadableError):
        return None


def keep_rates(path: Path, rates: Rates) -> None:
    """Remember; a machine that cannot write there only expects less well."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(rates))
    except OSError:
        return
