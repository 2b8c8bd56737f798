"""What a keeper that was killed leaves behind holds backups up for an hour, and no longer."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from fix_clock import ShiftedClock

from backupd.errors import BusyError
from backupd.model.ids import GenerationId, RunId
from backupd.repository import layout
from backupd.repository.marks import RunMark, removal_marked, run_marked
from backupd.store.base import put_document
from backupd.store.directory import DirectoryStore

GENERATION = GenerationId("20300101T000000Z-00000000")
RUN = RunMark.drawn(RunId("20300102T000000Z-00000001"), os.urandom)


def test_the_mark_of_a_killed_keeper_is_said_to_end_and_ends(directory_store: DirectoryStore) -> None:
    """A run waits for ten minutes, and says until when; so does another keeper. After an hour neither minds it."""
    clock = ShiftedClock()
    put_document(directory_store, layout.keeper_mark(GENERATION), b"killed")
    with pytest.raises(BusyError, match="does not end") as waited, run_marked(directory_store, GENERATION, RUN, clock):
        pytest.fail("the mark was not minded")
    assert timedelta(minutes=10) <= clock.by < timedelta(minutes=11)
    assert "60 minutes" in waited.value.hint
    with pytest.raises(BusyError) as other, removal_marked(directory_store, GENERATION, "other", clock):
        pytest.fail("the mark was not minded")
    assert "60 minutes" in other.value.hint

    clock.by = timedelta(minutes=61)
    with run_marked(directory_store, GENERATION, RUN, clock) as check:
        check()
    with removal_marked(directory_store, GENERATION, "other", clock):
        pass
    assert directory_store.stat(layout.keeper_mark(GENERATION)) is None
