"""The memory that a drill's server gets, where the drill itself is limited."""

from __future__ import annotations

import resource

from backupd.postgres.scratch.jail import within_limit


def test_no_limit_is_raised_above_the_one_that_rules() -> None:
    """The kernel refuses that, and the drill ended with Python's words for it."""
    assert within_limit(4 << 30, 1 << 30) == 1 << 30
    assert within_limit(1 << 30, 4 << 30) == 1 << 30
    assert within_limit(4 << 30, resource.RLIM_INFINITY) == 4 << 30
