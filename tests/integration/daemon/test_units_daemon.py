"""The daemon under its real units: what systemd hears of it, from its start to its end, at any moment."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fix_systemd import Installed

pytestmark = pytest.mark.timeout(900)

NODE = "backupd.service"
ALL = (NODE, "backupd-keeper.service", "backupd-drill.service")
LONGEST = 120
"""Seconds to the end of a unit, TimeoutStopSec= of each."""
SLOW = 'bandwidth = "15kB/s"\n'
"""A stop comes long before all is sent, however late it is: what the test adds takes minutes."""
ROWS = (
    "INSERT INTO issue SELECT 10000 + g, g % 5, md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 60000) AS g"
)


@pytest.fixture(scope="module", autouse=True)
def repository(booted: Installed) -> None:
    with booted.machine.path("/etc/backupd/backupd.toml").open("a") as config:
        config.write('[daemon]\nspread = "1s"\n')
    booted.as_unit("node", "init", "be")


@pytest.fixture(autouse=True)
def stopped(booted: Installed) -> Iterator[None]:
    """Every test begins and ends with nothing running, and with the same configuration."""
    config = booted.machine.path("/etc/backupd/backupd.toml")
    text = config.read_text()
    yield
    config.write_text(text)
    booted.machine.run("systemctl", "stop", *ALL)
    booted.machine.run("systemctl", "reset-failed", *ALL, check=False)


def snapshots(booted: Installed) -> int:
    """How many there are on the store."""
    return booted.machine.text("find", booted.around["home"], "-path", "*/snapshots/*", "-type", "f").count("\n")


def until_told(booted: Installed, unit: str, *words: str) -> str:
    """The journal, as soon as one of its lines holds all the words."""
    since = time.monotonic()
    while time.monotonic() - since < 150:
        journal = booted.machine.journal(unit)
        if any(all(word in line for word in words) for line in journal.splitlines()):
            return journal
        time.sleep(0.3)
    raise AssertionError(f"{unit} does not say {' '.join(words)}:\n{journal}")


def test_each_unit_does_its_work_by_itself(booted: Installed) -> None:
    """READY lets `start` return; then backup, verify, expire, purge and drill are done, each by the right unit."""
    before = snapshots(booted)  # of tests that ran earlier: then a backup may not be due
    booted.machine.run("systemctl", "start", NODE)
    assert booted.machine.shown(NODE)["ActiveState"] == "active"
    until_told(booted, NODE, "kind=backup", "outcome=done")
    booted.machine.run("systemctl", "start", *ALL)

    until_told(booted, NODE, "kind=verify", "outcome=done")
    for kind in ("purge", "expire", "verify"):
        until_told(booted, "backupd-keeper.service", f"kind={kind}", "outcome=done")
    until_told(booted, "backupd-drill.service", "kind=drill", "verdict=pass")

    assert max(before, 1) <= snapshots(booted) <= before + 1
    for unit in ALL:
        shown = booted.machine.wait_for(unit, lambda shown: "next: " in shown["StatusText"])
        assert (shown["ActiveState"], shown["NRestarts"]) == ("active", "0"), booted.machine.journal(unit)
        assert shown["WatchdogTimestampMonotonic"] != "0"
    assert "kind=backup" not in booted.machine.journal("backupd-keeper.service")
    assert "kind=purge" not in booted.machine.journal(NODE)


def test_a_reload_follows_a_right_file_and_tells_of_a_wrong_one(booted: Installed) -> None:
    """With a wrong one the old configuration holds, in the same process, and the log names line and key."""
    config = booted.machine.path("/etc/backupd/backupd.toml")
    text = config.read_text()
    booted.machine.run("systemctl", "start", NODE)
    before = booted.machine.shown(NODE)["MainPID"]

    config.write_text(f"{text}\n[nonsense]\n")
    booted.machine.run("systemctl", "reload", NODE)
    until_told(booted, NODE, "event=not-reloaded", "line ", "nonsense")
    assert booted.machine.shown(NODE)["ActiveState"] == "active"
    config.write_text(text)
    booted.machine.run("systemctl", "reload", NODE)

    until_told(booted, NODE, "event=reloaded")
    shown = booted.machine.wait_for(NODE, lambda shown: shown["ActiveState"] == "active")
    assert shown["MainPID"] == before


def test_a_stop_in_the_midst_of_a_backup_is_in_time_and_the_next_start_goes_on(booted: Installed) -> None:
    """The unit ends well within its deadline, nothing of it runs on, and the rest is sent by the next run."""
    config, before = booted.machine.path("/etc/backupd/backupd.toml"), snapshots(booted)
    text = config.read_text()
    config.write_text(
        text.replace('location = "here"\n', f'location = "here"\n{SLOW}', 1).replace(
            "[daemon]\n", '[schedule]\nbackup = "every 1m"\n[daemon]\n'
        )
    )
    told = booted.around["dsn"].replace("host=127.0.0.1", f"host={booted.around['sockets']}")
    booted.machine.run("psql", "-X", "-c", ROWS, told.replace("user=backupd", "user=postgres"))
    booted.machine.run("systemctl", "start", NODE)
    booted.machine.wait_for(NODE, lambda shown: "backup be (" in shown["StatusText"])

    since = time.monotonic()
    booted.machine.run("systemctl", "stop", NODE)

    shown = booted.machine.shown(NODE)
    assert time.monotonic() - since < LONGEST
    assert (shown["ActiveState"], shown["Result"]) == ("inactive", "success")
    assert booted.machine.run("pgrep", "-u", "backupd", check=False).stdout == b""
    assert snapshots(booted) == before

    config.write_text(text.replace("[daemon]\n", '[schedule]\nbackup = "every 1m"\n[daemon]\n'))
    booted.machine.run("systemctl", "start", NODE)
    until_told(booted, NODE, "kind=backup", "rows=62000", "outcome=done")
    assert snapshots(booted) > before


def test_a_daemon_that_hangs_is_replaced(booted: Installed) -> None:
    """When nothing feeds the watchdog any more, systemd ends it and starts another."""
    folder = booted.machine.path(f"/run/systemd/system/{NODE}.d")
    folder.mkdir(parents=True)
    (folder / "soon.conf").write_text("[Service]\nWatchdogSec=12s\nTimeoutAbortSec=1s\nRestartSec=1s\n")
    booted.machine.run("systemctl", "daemon-reload")
    try:
        booted.machine.run("systemctl", "start", NODE)
        time.sleep(14)
        first = booted.machine.shown(NODE)
        assert (first["ActiveState"], first["NRestarts"]) == ("active", "0")
        os.kill(outside(booted, int(first["MainPID"])), signal.SIGSTOP)

        shown = booted.machine.wait_for(
            NODE, lambda shown: shown["NRestarts"] == "1" and shown["ActiveState"] == "active"
        )

        assert shown["MainPID"] != first["MainPID"]
        assert "Watchdog timeout" in booted.machine.journal(NODE)
    finally:
        (folder / "soon.conf").unlink()
        folder.rmdir()
        booted.machine.run("systemctl", "daemon-reload")


def test_a_wrong_configuration_is_said_once(booted: Installed) -> None:
    """A start with it fails, names what is wrong, and is not tried again and again."""
    config = booted.machine.path("/etc/backupd/backupd.toml")
    with config.open("a") as file:
        file.write("[nonsense]\n")

    assert booted.machine.run("systemctl", "start", NODE, check=False).returncode == 1
    time.sleep(2)
    shown = booted.machine.shown(NODE)
    assert (shown["ActiveState"], shown["ExecMainStatus"], shown["NRestarts"]) == ("failed", "3", "0")
    assert "nonsense" in booted.machine.journal(NODE)


def outside(booted: Installed, inside: int) -> int:
    """The number that a process of the machine has for us."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            numbers = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()[1:]
        except OSError:
            continue
        if len(numbers) == 2 and int(numbers[1]) == inside and same_machine(booted, status.parent):
            return int(numbers[0])
    raise AssertionError(f"no process {inside}")


def same_machine(booted: Installed, process: Path) -> bool:
    return (process / "ns/pid").readlink() == Path(f"/proc/{booted.machine.pid}/ns/pid").readlink()
