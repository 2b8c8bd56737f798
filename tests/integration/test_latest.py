"""Which of several snapshots is the latest."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from doubles.quick_writer import segment

from backupd.operations.restore.choosing import choose, read_history
from backupd.operations.restore.values import RestoreRequest, World
from backupd.postgres.connect import Source
from backupd.trace import NoTrace

if TYPE_CHECKING:
    from fix_yard import Yard

CONTENT = {segment("structure", None): [b"ddl\n"]}


def test_snapshots_of_one_second_go_by_what_their_records_say(yard: Yard) -> None:
    """Their names differ in the hash only, which orders nothing."""
    start = yard.keeper.clock.now().replace(microsecond=0) - timedelta(days=1)
    yard.keeper.book.sync()
    world = World(yard.identity.secret, yard.keeper.clock, NoTrace(), os.urandom)
    request = RestoreRequest("app", "latest", Source("", client_folders=()), "nowhere")
    for number in range(6):
        made = yard.begin(start + timedelta(milliseconds=number + 1), CONTENT)
        chosen = choose(request, yard.repository, world, read_history(yard.repository, world))
        assert chosen.snapshot == made.snapshot
