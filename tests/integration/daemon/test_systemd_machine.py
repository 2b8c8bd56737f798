"""The machine that tests boot: gone without a trace, however a test ends, and a clear failure where none can be."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.node.systemd_machine import NoMachineError, boot
from doubles.paths import TESTS

BOOTER = """
import sys, time
from pathlib import Path
from doubles.node.systemd_machine import boot
machine = boot(Path(sys.argv[1]))
machine.path("/etc/left").write_text("behind")
print(machine.pid, machine._holding.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_test_leaves_nothing(tmp_path: Path) -> None:
    """No process, no control group, no mount and no file, though nobody had time to clean up."""
    test = subprocess.Popen(
        [sys.executable, "-c", BOOTER, tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert test.stdout is not None
    first, holding = test.stdout.readline().split()
    group = f"/backupd-test-{holding}"
    assert group in Path(f"/proc/{first}/cgroup").read_text()

    test.send_signal(signal.SIGKILL)
    test.wait()
    test.stdout.close()

    until = time.monotonic() + 60
    while Path(f"/proc/{first}").exists() or Path(f"/proc/{holding}").exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not Path("/etc/left").exists()
    assert not [path for path in Path("/sys/fs/cgroup").glob(f"**{group}") if path.exists()]


def test_a_machine_that_cannot_be_is_a_failure_that_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root, and where namespaces are refused: never a skip."""
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    refusing.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(NoMachineError, match="refuses what a booted one needs: unshare failed"):
            boot(tmp_path)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NoMachineError, match="needs root"):
        boot(tmp_path)
