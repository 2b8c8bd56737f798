"""The script `recover` chooses the latest snapshot by what records say, where names do not order them."""

from __future__ import annotations

import argparse
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest
from doubles.paths import RECOVER

STAMPS = ("2026-01-02T14:00:00.1Z", "2026-01-02T14:00:00.2Z")


class TwoOfOneSecond:
    """A store whose records' hashes are in the order `first` says."""

    def __init__(self, *first: str) -> None:
        self.stamps = dict(zip(("g/20260102T140000Z-aa", "g/20260102T140000Z-bb"), first, strict=True))

    def snapshots(self) -> list[str]:
        return sorted(self.stamps)

    def record(self, name: str) -> dict[str, Any]:
        return {"database": "app", "exported": self.stamps[name]}


@pytest.mark.parametrize("order", [STAMPS, STAMPS[::-1]])
def test_snapshots_of_one_second_go_by_what_their_records_say(
    order: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their names differ in the hash only, which orders nothing."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = spec_from_loader("recover", SourceFileLoader("recover", str(RECOVER)))
    assert spec is not None
    assert spec.loader is not None
    script = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recover", script)
    spec.loader.exec_module(script)
    options = argparse.Namespace(snapshot="latest", list=False, database=None)
    ((_, record),), sound = script.choose(TwoOfOneSecond(*order), options)
    assert (record["exported"], sound) == (STAMPS[1], True)
