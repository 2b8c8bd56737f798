"""The capabilities of a real server are tried again: an equal result is no change, a lost one is."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from backupd.clock import SystemClock
from backupd.operations.status.capabilities import ProbeRequest, changes, last_probe
from backupd.store.probe import probe
from backupd.store.sftp.store import SftpStore

NOW = datetime(2030, 6, 1, tzinfo=UTC)


def test_an_append_only_account_stays_one_or_is_told(roles: Any, tmp_path: Path) -> None:
    """The writer's own account shows no change, however often; one that may remove shows what is lost."""
    writer, keeper = (SftpStore(target, SystemClock()) for target in (roles.writer, roles.keeper))
    founded = msgspec.to_builtins(probe(writer))
    for days in range(2):
        request = ProbeRequest(tmp_path / "tried.json", wanted=True, random=os.urandom, now=NOW + timedelta(days=days))
        known = last_probe(writer, request)
        assert known is not None
        assert (known.at, changes(founded, writer, known)) == (request.now, ())
    other = last_probe(keeper, ProbeRequest(tmp_path / "other.json", wanted=True, random=os.urandom, now=NOW))
    (lost,) = changes(founded, keeper, other)
    assert (lost.what, lost.before, lost.now, lost.worse) == ("append_only", "yes", "no", True)
    for store in (writer, keeper):
        store.close()
