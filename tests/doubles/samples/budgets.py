"""A budget of a deadline for tests that only need one that can be kept."""

from __future__ import annotations

from datetime import timedelta

from backupd.planning.deadlines import DeletionBudget

HALF_A_YEAR = DeletionBudget(
    window=timedelta(days=180),
    expiry_gap=timedelta(days=1),
    store_snapshots=timedelta(days=8),
    clock=timedelta(days=1),
    repair=timedelta(days=7),
    grace=timedelta(days=30),
    early=timedelta(days=1),
)
