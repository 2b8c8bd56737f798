"""What a daemon at rest has is looked at day by day, and may not grow."""

from __future__ import annotations

import importlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles.node.processes import eventually
from doubles.paths import ROOT


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The soak's own, which finds others as `lib`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("lib.soak.footprint")


@pytest.fixture
def usual(module: Any) -> Any:
    return module.Footprint(memory=40 << 20, descriptors=13, threads=2, children=0)


def seen(module: Any, *days: Any) -> Any:
    footprints = module.Footprints()
    for day in days:
        footprints.add("one", 1, day)
    return footprints


def test_a_process_is_seen_with_its_children(module: Any) -> None:
    """Also with one that ended and that nobody waited for, which takes a place in the kernel's table."""
    before = module.Footprint.of(os.getpid())
    with subprocess.Popen(["true"]) as child:
        eventually(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())
        during = module.Footprint.of(os.getpid())
    assert during.children == before.children + 1
    assert module.Footprint.of(os.getpid()).children == before.children
    assert min(before.threads, before.descriptors, before.memory >> 20) >= 1


@pytest.mark.parametrize("name", ["memory", "descriptors", "threads", "children"])
def test_what_grows_is_named(module: Any, usual: Any, name: str) -> None:
    """Beyond what may come and go; what the first day took is what the daemon begins with."""
    spare = {"memory": module.MEMORY, "children": 0}.get(name, module.SPARE)
    most = replace(usual, **{name: getattr(usual, name) + spare})
    more = replace(most, **{name: getattr(most, name) + 1})
    assert seen(module, usual, usual, most, usual).faults() == []
    (fault,) = seen(module, usual, usual, more, usual).faults()
    assert name in fault
    assert seen(module, usual, more, more).faults() == ([fault] if name == "children" else [])


def test_each_daemon_is_held_against_itself(module: Any, usual: Any) -> None:
    """One that was killed began anew; figures are of the one that lived longest."""
    footprints = seen(module, usual, replace(usual, memory=42 << 20), usual)
    footprints.add("two", 2, replace(usual, descriptors=99))
    assert footprints.faults() == []
    assert footprints.figures() == {
        "daemon": {
            "days": 3,
            "memory": {"first": 40.0, "last": 40.0, "most": 42.0},
            "descriptors": {"first": 13, "last": 13, "most": 13},
            "threads": {"first": 2, "last": 2, "most": 2},
            "children": {"first": 0, "last": 0, "most": 0},
        }
    }
    assert module.Footprints().figures() == {}
