"""The verdict of a drill follows from its checks."""

from __future__ import annotations

import pytest

from backupd.model.report import PROVING, Check, CheckName, DrillVerdict, verdict_of

PASSED = dict.fromkeys(CheckName, "pass")


@pytest.mark.parametrize(
    ("changed", "usual", "damaged"),
    [
        ({}, "pass", "pass"),
        ({CheckName.FRESHNESS: "skip"}, "pass", "pass"),
        ({CheckName.FRESHNESS: "error"}, "error", "error"),
        ({CheckName.FRESHNESS: "fail", CheckName.EQUALITY: "error"}, "fail", "fail"),
        *(({name: "skip"}, "error", "pass") for name in PROVING),
        ({CheckName.DAMAGE: "skip"}, "pass", "error"),
    ],
)
def test_a_drill_passes_if_all_that_proves_something_did(
    changed: dict[CheckName, str], usual: DrillVerdict, damaged: DrillVerdict
) -> None:
    """A skipped check proves nothing, and a failed one outweighs all others."""
    checks = [Check.of(name, verdict) for name, verdict in {**PASSED, **changed}.items()]
    assert (verdict_of(checks, "automatic"), verdict_of(checks, "damage")) == (usual, damaged)
    assert verdict_of([], "automatic") == "error"
