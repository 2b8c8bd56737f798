"""Findings of a check as values: printed by the command line, counted by the daemon, asserted by tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity of a finding for backups."""

    ERROR = "error"
    """The backup would fail or be incomplete."""
    WARNING = "warning"
    """The backup works, but something about it is not as it should be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. Message and hint follow the grammar of errors, and name no tenant."""

    severity: Severity
    code: str
    """A stable word for tests and monitoring."""
    message: str
    hint: str


def errors_among(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that are errors, in order."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]
