"""Folders of the checkout that tests use. A test that moves to another folder need not count its parents."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: it holds `backupd`, `scripts` and `tests`."""
TESTS = ROOT / "tests"
"""Folder from which tests import `doubles` and the modules of fixtures."""
RECOVER = ROOT / "scripts" / "recover"
"""The stand-alone script that restores without backupd."""
