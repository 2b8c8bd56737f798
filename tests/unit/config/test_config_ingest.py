"""Taking what nodes hand in is the daemon's work where a keeper has a store that has them do so."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_config import WHOLE

from backupd.config.load import parse
from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.operations.service.jobs import JobKey, JobKind
from backupd.wiring.context import Context
from backupd.wiring.daemon import service_plan

BE = RegionName("be")
KINDS = (JobKind.INGEST, JobKind.EXPIRE)


def context_of(folder: Path, text: str) -> Context:
    for name in ("keeper.key", "tenant.key", "store.key", "keeper-store.key"):
        (folder / name).touch(mode=0o600)
    return Context(parse(text.replace("credential:", f"{folder}/"), "example"), {})


def test_it_is_planned_where_nodes_hand_in(tmp_path: Path) -> None:
    """And it keeps no backup or purge waiting."""
    plan = service_plan(context_of(tmp_path, WHOLE), [BE], KINDS, spread=None)
    jobs = {job.key: job for job in plan.jobs}
    job = jobs[JobKey(JobKind.INGEST, BE)]
    assert (job.arguments, job.heavy) == (("ingest", "be"), False)
    assert job.limits.deadline == jobs[JobKey(JobKind.EXPIRE, BE)].limits.deadline


def test_it_is_refused_where_none_does(tmp_path: Path) -> None:
    """With what is missing."""
    with pytest.raises(ConfigError, match='not set up for "ingest"') as refused:
        service_plan(context_of(tmp_path, WHOLE.replace("ingest = true", "ingest = false")), [BE], KINDS, spread=None)
    assert "ingest = true" in refused.value.hint
