"""A restore chooses the latest snapshot by what records say, and reads no more than that needs."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

from doubles.stores.fake_writer import segment

from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest
from backupd.planning.selection import Selection
from backupd.postgres.connect import Source
from backupd.repository import layout
from backupd.trace import NoTrace

if TYPE_CHECKING:
    from fix_offline_keeper import OfflineKeeper

CONTENT = {segment("structure", None): [b"ddl\n"]}


def test_snapshots_of_one_second_go_by_what_their_records_say(offline: OfflineKeeper) -> None:
    """Their names differ in the hash only, which orders nothing."""
    start = offline.keeper.clock.now().replace(microsecond=0) - timedelta(days=1)
    offline.keeper.book.sync()
    world = RestoreEnvironment(offline.identity.secret, offline.keeper.clock, NoTrace(), os.urandom)
    request = RestoreRequest("app", "latest", Source("", client_folders=()), "nowhere")
    for number in range(6):
        made = offline.begin(start + timedelta(milliseconds=number + 1), CONTENT)
        chosen = choose(request, offline.repository, world, read_history(offline.repository, world))
        assert chosen.snapshot == made.snapshot


def test_no_more_is_read_than_the_choice_needs(offline: OfflineKeeper) -> None:
    """The newest record, its generation's keyrings, and the headers of the record's packs."""
    *_, newest = [offline.backup(days, "acme", "globex") for days in (3, 2, 1)]
    offline.keeper.book.sync()
    world = RestoreEnvironment(offline.identity.secret, offline.keeper.clock, NoTrace(), os.urandom)
    history = read_history(offline.repository, world)
    seen: list[tuple[str, str]] = []
    offline.store.before = lambda method, name: seen.append((method, name))
    request = RestoreRequest(
        "app", "latest", Source("", client_folders=()), "nowhere", selection=Selection(frozenset({"acme"}))
    )

    chosen = choose(request, offline.repository, world, history)

    assert (chosen.snapshot, chosen.unselected) == (newest, 1)
    read = [name for method, name in seen if method == "get"]
    assert len(read) == len(set(read))
    assert [name for name in read if name.startswith("snapshots/")] == [
        layout.record_name(chosen.record.generation, newest)
    ]
    packs = [layout.pack_name(chosen.record.generation, sha256) for sha256, _, _ in chosen.record.packs]
    others = [name for name in read if not name.startswith(("snapshots/", "keyrings/", layout.REPOSITORY))]
    assert sorted(others) == sorted(packs)
    assert not [name for method, name in seen if method == "list" and name.startswith("packs")]
