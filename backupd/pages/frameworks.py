"""Which question of which framework a report answers, and where in it."""

from __future__ import annotations

from typing import Final, NamedTuple


class FrameworkQuestion(NamedTuple):
    """One question."""

    framework: str
    question: str
    fields: tuple[str, ...]
    """Of the report's JSON, FORMAT.md §14."""


QUESTIONS: Final = (
    FrameworkQuestion(
        "ISO/IEC 27001:2022 A.8.13",
        "Are backup copies tested regularly, as the policy on backup says?",
        ("started", "scheduled", "selection", "objectives.drill_every", "verdict"),
    ),
    FrameworkQuestion(
        "SOC 2 A1.2",
        "Do the backup and recovery processes operate, from a copy kept elsewhere?",
        ("selection.store", "selection.population", "checks.freshness", "versions"),
    ),
    FrameworkQuestion(
        "SOC 2 A1.3",
        "Are recovery procedures tested, and is restored data complete and unaltered?",
        ("checks.authentic", "checks.equality", "checks.sequences", "checks.constraints", "sizes"),
    ),
    FrameworkQuestion(
        "DORA Art. 12(2), (3)",
        "Is restoring tested periodically, on systems apart from the source?",
        ("type", "trigger", "machine", "checks.disposal", "disposal"),
    ),
    FrameworkQuestion(
        "DORA Art. 12(6), (7)",
        "Are recovery time and point objectives met, and was the restored data reconciled?",
        ("objectives", "measured", "phases", "checks.equality", "checks.comparison"),
    ),
    FrameworkQuestion(
        "GDPR Art. 32(1)(c)",
        "Can availability of and access to personal data be restored in time?",
        ("measured.rto", "objectives.rto", "measured.rpo", "objectives.rpo"),
    ),
    FrameworkQuestion(
        "GDPR Art. 32(1)(d)",
        "Is the effectiveness of the measures tested, assessed and evaluated regularly?",
        ("checks", "previous", "retest_of", "deletion", "checks.purged", "checks.canary"),
    ),
)
