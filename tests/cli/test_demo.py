"""The demo, as somebody who has just cloned the repository runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.paths import ROOT

NOT_CLONED = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__")


@pytest.mark.longest
@pytest.mark.timeout(600)
def test_the_demo_keeps_its_promises_and_leaves_nothing(tmp_path):
    """From a clean copy, every step turns out as told, and neither servers nor files stay."""
    copy = shutil.copytree(ROOT, tmp_path / "backupd", ignore=NOT_CLONED)
    before = sorted(copy.iterdir())
    done = subprocess.run(
        [copy / "scripts" / "demo"],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "✗" not in done.stdout
    assert done.stdout.count("✓") == 8, done.stdout
    folders = set(re.findall(r"(?:/[\w.-]+)*/backupd-(?:demo|pg)-\w+", done.stdout))
    assert len(folders) == 2, folders
    assert not [folder for folder in folders if Path(folder).exists()]
    assert sorted(copy.iterdir()) == before
