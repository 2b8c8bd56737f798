"""What came of each case, one line each, so that a sweep can go on where another ended, and several can share one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lib.sweep.case import Case
from lib.sweep.faults import Fault
from lib.sweep.report import Row


class Log:
    """A file of lines of JSON: how many calls and cases an operation has, and what came of each."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def counted(self, operation: str, calls: Mapping[str, int], faults: Sequence[Fault]) -> None:
        sorts = sorted({fault.sort for fault in faults})
        self._add({"operation": operation, "calls": calls, "cases": len(faults), "sorts": sorts})

    def ended(self, case: Case) -> None:
        self._add(
            {
                "operation": case.operation,
                "place": case.fault.place,
                "what": case.fault.what,
                "status": case.status,
                "again": case.again,
                "waited": case.waited,
                "wrong": case.wrong,
            }
        )

    def done(self, operation: str) -> set[str]:
        """The places of the operation's faults that have been tried."""
        return {line["place"] for line in self._lines() if line["operation"] == operation and "place" in line}

    def rows(self, operations: Sequence[str]) -> list[Row]:
        """One for each operation that was begun. A case that was run again counts as it was the last time."""
        counted: dict[str, Any] = {}
        cases: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            if "calls" in line:
                counted[line["operation"]] = line
            else:
                cases.setdefault(line["operation"], {})[line["place"]] = line
        return [_row(counted[name], list(cases.get(name, {}).values())) for name in operations if name in counted]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)

    def _add(self, line: Mapping[str, object]) -> None:
        """In one write, so that sweeps beside this one may add to the same file."""
        data = json.dumps(line).encode() + b"\n"
        with open(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab", buffering=0) as out:  # noqa: PTH123 - a descriptor has no path
            out.write(data)


def _row(counted: Mapping[str, Any], cases: Sequence[Mapping[str, Any]]) -> Row:
    name = counted["operation"]
    row = Row(name, counted["calls"], counted["cases"], run=len(cases))
    tried = {replace(Fault.parse(case["place"]), what=case["what"]).sort for case in cases}
    row.sorts, row.tried = len(counted["sorts"]), len(tried.intersection(counted["sorts"]))
    row.waited = sum(case["waited"] for case in cases)
    for case in cases:
        if case["wrong"]:
            lines = [f"  {line}" for one in case["wrong"] for line in one.splitlines()]
            first = f"{name} {case['place']} ({case['what']}): status {case['status']}, then {case['again']}"
            row.wrong.append("\n".join([first, *lines]))
    return row
