"""The daemon on a real node: a real PostgreSQL, a store on disk, jobs as processes, signals from outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
from doubles.node.processes import alive, eventually
from fix_daemon import Nodes, scheduled
from fix_nodes import NodeFolder
from fix_postgres import Database


def test_it_backs_up_verifies_and_keeps_by_itself(kept_node: NodeFolder, daemons: Nodes) -> None:
    """Whatever is due is done, and again, though there is more to do than time; each has a line in the log, no name."""
    scheduled(kept_node, backup="every 5s", verify="every 6s", expire="every 7s", purge="every 8s", observe="every 10s")
    daemon = daemons.start(kept_node)
    for kind in ("backup", "verify", "expire", "purge", "observe"):
        daemon.wait_for(kind, number=2, seconds=120)

    assert daemon.stop() == 0
    assert len(kept_node.json("snapshots")["regions"][0]["snapshots"]) >= 2
    assert daemon.runs("backup")[0]["rows"] == 300
    # Until the first backup there is no snapshot, which whoever looks before it says.
    seen = {line["event"] for line in daemon.lines()} - {"alarm", "alarm-over"}
    assert seen == {"ready", "job", "stopping", "stopped"}
    assert "secretive" not in daemon.log.read_text()
    assert [status for status in daemons.manager.statuses() if "backup be (" in status]
    assert daemons.manager.times("STOPPING=1")


def test_what_was_missed_is_caught_up_with_once(kept_node: NodeFolder, daemons: Nodes) -> None:
    """A daemon that starts after its hour does the work once; the next one finds on the store that it is done."""
    scheduled(kept_node, backup="daily 00:00", expire="daily 04:00")
    first = daemons.start(kept_node)
    first.wait_for("backup")
    first.wait_for("expire")
    first.stop()
    for history in kept_node.node.rglob("history.sqlite"):
        history.unlink()
    second = daemons.start(kept_node)
    second.wait_for("observe")
    time.sleep(2)
    second.stop()

    assert (len(first.runs("backup")), len(second.runs("backup"))) == (1, 0)
    assert len(kept_node.json("snapshots")["regions"][0]["snapshots"]) == 1


def test_once_does_what_is_due_and_ends(kept_node: NodeFolder, daemons: Nodes) -> None:
    """For machines that wake only for it: exit status 0, and everything done."""
    scheduled(kept_node, backup="daily 01:30", verify="daily 05:00", purge="daily 03:00")
    daemon = daemons.start(kept_node, "--once")

    assert daemon.process.wait(timeout=60) == 0
    assert [line["kind"] for line in daemon.lines() if line["event"] == "job"] == [
        "observe",
        "backup",
        "purge",
        "verify",
    ]


def test_stopped_in_the_middle_it_ends_in_time_and_goes_on_the_next_time(kept_node: NodeFolder, daemons: Nodes) -> None:
    """SIGTERM during a backup that waits: STOPPING at once, nothing runs any more, and the next start completes it."""
    scheduled(kept_node, backup="daily 00:00", stop_within="8s")
    database: Database = kept_node.database
    with _locked(database):
        daemon = daemons.start(kept_node)
        eventually(daemon.children)
        eventually(lambda: _waits_for_lock(database))
        asked = time.monotonic()
        assert daemon.stop() == 0
        ended = time.monotonic()

    assert daemons.manager.wait_for("STOPPING=1") - asked < 2
    assert ended - asked < 8
    assert [line["outcome"] for line in daemon.runs("backup")] == ["stopped"]
    assert daemons.start(kept_node).wait_for("backup")["rows"] == 300


def test_killed_it_leaves_nobody_behind(kept_node: NodeFolder, daemons: Nodes) -> None:
    """SIGKILL of the daemon alone: its jobs notice, end in order, and the next daemon does the work."""
    scheduled(kept_node, backup="daily 00:00")
    database: Database = kept_node.database
    with _locked(database):
        daemon = daemons.start(kept_node)
        eventually(lambda: _waits_for_lock(database))
        started = daemon.children()
        daemon.process.kill()
        daemon.process.wait()
        assert started
        eventually(lambda: not alive(started), 30)

    assert daemons.start(kept_node).wait_for("backup")["rows"] == 300


def test_a_job_that_hangs_is_killed_and_the_others_go_on(kept_node: NodeFolder, daemons: Nodes) -> None:
    """A job that no longer moves is ended with all it started, by force where it does not listen; looking goes on."""
    scheduled(kept_node, backup="daily 00:00", observe="every 2s", stall="3s", stop_within="2s")
    database: Database = kept_node.database
    with _locked(database):
        daemon = daemons.start(kept_node, watchdog=3.0)
        eventually(lambda: _waits_for_lock(database))
        (job,) = [pid for pid in daemon.children() if b"backup\0be" in _arguments(pid)]
        os.kill(job, signal.SIGSTOP)  # it hears no SIGTERM
        hung = daemon.wait_for("backup", "hung")
        looks = len(daemon.runs("observe"))
        daemon.wait_for("observe", None, number=looks + 1)
    daemon.wait_for("backup", seconds=60)

    assert hung["retry"]
    assert not alive([job])
    assert len(daemons.manager.times("WATCHDOG=1")) >= 3


def test_a_new_configuration_is_taken_and_a_wrong_one_is_not(kept_node: NodeFolder, daemons: Nodes) -> None:
    """SIGHUP with a broken file: every fault is told, the old one holds for jobs, too; mended, it is taken."""
    scheduled(kept_node, observe="every 1s", verify="daily 05:00")
    daemon = daemons.start(kept_node)
    daemon.wait_for("observe", None)
    config = kept_node.node / "backupd.toml"
    good = config.read_text()
    config.write_text(good.replace("spool_dir", "spol_dir").replace("every 1s", "evry 1s"))
    daemon.process.send_signal(signal.SIGHUP)
    daemons.manager.wait_for("READY=1", 2)
    refused = next(line for line in daemon.lines() if line["event"] == "not-reloaded")
    number = len(daemon.runs("observe"))
    daemon.wait_for("observe", None, number=number + 2)
    scheduled(kept_node, observe="every 1s", backup="daily 00:00")
    config.write_text(config.read_text().replace("spol_dir", "spool_dir").replace("evry", "every"))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("backup")

    assert "spol_dir: unknown key" in refused["faults"]
    assert "schedule.observe: is no timetable" in refused["faults"]
    assert [line["event"] for line in daemon.lines() if line["event"] == "reloaded"] == ["reloaded"]
    reloading = [message for _, message in daemons.manager.heard if message.startswith("RELOADING=1\nMONOTONIC_USEC=")]
    assert len(reloading) == 2


def test_a_second_daemon_for_the_same_jobs_is_refused(kept_node: NodeFolder, daemons: Nodes) -> None:
    """One state folder has one daemon for each job; another that only looks, or does something else, is welcome."""
    scheduled(kept_node, backup="daily 00:00", observe="every 1s", verify="never")
    first = daemons.start(kept_node)
    second = daemons.start(kept_node, ready=False)

    assert second.process.wait(timeout=30) == 11
    assert "another daemon of this machine already runs" in json.loads(second.log.read_text())["error"]["message"]
    assert daemons.start(kept_node, "--jobs", "observe").wait_for("observe")
    first.stop()


def test_two_nodes_at_once_do_the_work_once(kept_node: NodeFolder, daemons: Nodes) -> None:
    """Two machines, one region: who comes second finds the first at work, looks again, and sees it done."""
    other = _another_node(kept_node)
    for node in (kept_node, other):
        scheduled(node, backup="daily 00:00")
    database: Database = kept_node.database
    with _locked(database):
        first = daemons.start(kept_node, "--jobs", "backup")
        eventually(lambda: _waits_for_lock(database))
        second = daemons.start(other, "--jobs", "backup")
        second.wait_for("backup", "busy", number=3)
        looks = len(second.runs("observe"))
    first.wait_for("backup")
    second.wait_for("observe", None, number=looks + 1)
    time.sleep(1)
    assert (first.stop(), second.stop()) == (0, 0)

    assert {line["outcome"] for line in second.runs("backup")} == {"busy"}
    assert len(kept_node.json("snapshots")["regions"][0]["snapshots"]) == 1


def test_credentials_that_cannot_be_read_stop_the_start(kept_node: NodeFolder, daemons: Nodes) -> None:
    """READY means able to work: a key that is missing is named, with what needs it, and the exit status is 3."""
    scheduled(kept_node, backup="daily 00:00", purge="daily 03:00")
    (kept_node.node / "keeper.key").unlink()
    daemon = daemons.start(kept_node, ready=False)

    assert daemon.process.wait(timeout=30) == 3
    message = json.loads(daemon.log.read_text())["error"]["message"]
    assert message == f'"{kept_node.node}/keeper.key" cannot be read (No such file or directory), and "purge" needs it'
    assert not daemons.manager.times("READY=1")


def test_credentials_that_nobody_gave_leave_their_jobs_out(
    kept_node: NodeFolder, daemons: Nodes, tmp_path: Path
) -> None:
    """A unit without the keeper's credential does everything else; asked for the keeper's work, it does not start."""
    scheduled(kept_node, backup="daily 00:00", purge="daily 03:00")
    config = kept_node.node / "backupd.toml"
    config.write_text(config.read_text().replace(f'"{kept_node.node}/keeper.key"', '"credential:keeper.key"'))
    (tmp_path / "credentials").mkdir()
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    daemon = daemons.start(kept_node, **given)
    asked = daemons.start(kept_node, "--jobs", "purge", ready=False, **given)

    assert daemon.lines()[0]["jobs"] == "observe be, backup be"
    assert asked.process.wait(timeout=30) == 3


def test_a_store_that_is_down_is_no_reason_not_to_be_ready(kept_node: NodeFolder, daemons: Nodes) -> None:
    """READY all the same; STATUS and the log tell, and when it is back the work is done."""
    scheduled(kept_node, backup="daily 00:00", observe="every 2s")
    disk = kept_node.folder / "disk"
    disk.rename(kept_node.folder / "elsewhere")
    daemon = daemons.start(kept_node)
    daemon.wait_for("backup", "failed")
    eventually(lambda: any("FAILING" in status and "backup be" in status for status in daemons.manager.statuses()))
    (kept_node.folder / "elsewhere").rename(disk)

    assert daemon.wait_for("backup", seconds=90)["attempt"] >= 2
    assert "FAILING" not in _last_status(daemons)


def _another_node(node: NodeFolder) -> NodeFolder:
    """A second machine of the region: the same keys, another name, folders of its own."""
    other = replace(node, folder=node.folder / "second")
    shutil.copytree(node.node, other.node, ignore=shutil.ignore_patterns("state", "spool"))
    config = other.node / "backupd.toml"
    text = config.read_text().replace(str(node.node), str(other.node))
    config.write_text(text.replace('name = "test"', 'name = "second"'))
    return other


def _last_status(daemons: Nodes) -> str:
    eventually(lambda: "FAILING" not in daemons.manager.statuses()[-1])
    return daemons.manager.statuses()[-1]


@contextlib.contextmanager
def _locked(database: Database) -> Iterator[None]:
    """Nobody can read the rows meanwhile."""
    with psycopg.connect(database.conninfo) as connection:
        connection.execute("LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
        yield


def _waits_for_lock(database: Database) -> bool:
    found = database.sql(
        "SELECT 1 FROM pg_locks JOIN pg_database AS d ON database = d.oid"
        " WHERE NOT granted AND datname = current_database()"
    )
    return bool(found)


def _arguments(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_jobs_follow_every_file_of_the_configuration(kept_node: NodeFolder, daemons: Nodes) -> None:
    """A job has the files that the daemon accepted, whatever happens to them; a reload that finds a fault names it."""
    scheduled(kept_node, backup="daily 00:00", observe="every 4s")
    config = kept_node.node / "backupd.toml"
    text = config.read_text()
    at, end = text.index("[regions.be]"), text.index("[keeper]")
    folder = kept_node.node / "conf.d"
    folder.mkdir()
    (folder / "be.toml").write_text(text[at:end])
    config.write_text('include = ["conf.d/*.toml"]\n' + text[:at] + text[end:])
    daemon = daemons.start(kept_node)
    daemon.wait_for("observe")
    (folder / "be.toml").write_text("[regions.be]\nlocation = 1\n")
    daemon.wait_for("observe", number=len(daemon.runs("observe")) + 1)
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "conf.d/be.toml" in daemon.log.read_text(), 30)
    daemon.wait_for("observe", number=len(daemon.runs("observe")) + 1)
    daemon.stop()
