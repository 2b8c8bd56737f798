"""What goes wrong, where, and how: a fault is one kind at one call of one port, counted from the run's first."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

PORTS = ("store", "postgres", "spool", "state", "clock")
KINDS = {
    "error": "this call is refused",
    "timeout": "this call gets no answer in time",
    "cut": "the line is cut, and stays so",
    "lost-reply": "this call has its effect, and its reply is lost",
    "short": "a part is written",
    "full": "no room is left, from now on",
    "quota": "a quota is reached, from now on",
    "read-only": "nothing can be changed any more",
    "permission": "access is refused, from now on",
    "removed": "somebody removes the whole folder before this call",
    "back": "the clock goes back by two days",
    "ahead": "the clock goes ahead by two years",
    "kill": "the process is killed before this call",
    "killed-after": "the process is killed after this call",
}
STAYING = frozenset({"cut", "full", "quota", "read-only", "permission", "short"})
"""Kinds that do not pass: every later call that they concern fails, too."""
BY_PORT: Mapping[str, Mapping[str, str]] = {
    "store": {
        "any": "error timeout cut permission",
        "write": "error timeout cut permission lost-reply full quota read-only kill killed-after",
        "put": "error timeout cut permission lost-reply full quota read-only kill killed-after short",
    },
    "postgres": {"any": "error timeout cut kill", "program": "error timeout cut permission kill killed-after"},
    "spool": {
        "any": "error permission removed",
        "write": "error permission removed full quota read-only kill killed-after",
        "put": "error permission removed full quota read-only kill killed-after short",
    },
    "clock": {"any": "back ahead kill"},
}
"""The kinds that a call can meet, by its port and its manner."""


class Call(NamedTuple):
    """One call that a run made. `process` is `main` or `worker`, whose calls count apart."""

    process: str
    port: str
    manner: str
    """Whether it writes: `any`, `write`, or `put` for one that takes bytes; `program` starts one of PostgreSQL's."""
    what: str

    @property
    def kinds(self) -> list[str]:
        return BY_PORT["spool" if self.port == "state" else self.port][self.manner].split()


@dataclass(frozen=True)
class Fault:
    """One kind at the call with this number, from 1, of a port in a process."""

    process: str
    port: str
    number: int
    kind: str
    what: str = ""

    @property
    def place(self) -> str:
        """What it is known by, and can be asked for with."""
        return f"{self.process}:{self.port}:{self.number}:{self.kind}"

    @property
    def sort(self) -> str:
        """What it has in common with others: its kind, at calls that do the same."""
        return f"{self.process}:{self.port}:{self.kind}:{self.what}"

    def __str__(self) -> str:
        return f"{self.place} ({self.what})"

    @classmethod
    def parse(cls, text: str) -> Fault:
        process, port, number, kind = text.partition(" ")[0].split(":")
        return cls(process, port, int(number), kind)


def spread(faults: Sequence[Fault], seed: str) -> list[Fault]:
    """All of them in an order that the seed draws, of which every beginning has as much as it can of everything.

    Each sort of fault has its turn before one has its second.
    """
    drawn, turns = random.Random(seed), Counter[str]()
    placed = []
    for fault in drawn.sample(faults, len(faults)):
        turns[fault.sort] += 1
        placed.append((turns[fault.sort], fault))
    return [fault for _, fault in sorted(placed, key=lambda pair: pair[0])]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


Errors = Callable[[str, str], BaseException]
"""Makes what a call that meets a kind raises, of the kind and the call's name."""


@dataclass
class Trip:
    """The fault of this process, waiting for its call. Calls are counted, and written down where a log is asked for."""

    process: str
    fault: Fault | None
    log: str
    folders: Mapping[str, Path] = field(default_factory=dict)
    """Those of the ports that are disks of our own."""
    counts: Counter[str] = field(default_factory=Counter)
    blown: bool = False
    inside: threading.local = field(default_factory=threading.local)
    lock: Any = field(default_factory=threading.RLock)

    @classmethod
    def of_environment(cls) -> Trip:
        plan = json.loads(os.environ["SWEEP_PLAN"])
        return cls("worker", Fault(**plan["fault"]) if plan["fault"] else None, plan["log"])

    def environment(self) -> Mapping[str, str]:
        """What a worker process is to be given."""
        plan = json.dumps({"fault": asdict(self.fault) if self.fault else None, "log": self.log})
        return {"SWEEP_PLAN": plan, **{name: os.environ[name] for name in ("SWEEP_DISKS", "SWEEP_CASE")}}

    def call(
        self,
        port: str,
        manner: str,
        what: str,
        effect: Callable[[], T],
        errors: Errors,
        short: Callable[[], T] | None = None,
    ) -> T:
        """Make the call, or have it meet what it is to meet. What it does inside of itself counts as a part of it."""
        if getattr(self.inside, "depth", 0):
            return effect()
        kind, first = self._meets(port, manner, what)
        self.inside.depth = 1
        try:
            return self._made(port, (kind, first), what, effect, errors, short)
        finally:
            self.inside.depth = 0

    def _made(
        self,
        port: str,
        met: tuple[str, bool],
        what: str,
        effect: Callable[[], T],
        errors: Errors,
        short: Callable[[], T] | None,
    ) -> T:
        kind, first = met
        if kind == "kill":
            die()
        if kind == "removed":
            shutil.rmtree(self.folders[port], ignore_errors=True)
            return effect()
        if kind == "short" and first and short is not None:
            return short()
        if kind and kind not in ("lost-reply", "killed-after"):
            raise errors(kind, what)
        result = effect()
        if kind == "killed-after":
            die()
        if kind == "lost-reply":
            raise errors(kind, what)
        return result

    def _meets(self, port: str, manner: str, what: str) -> tuple[str, bool]:
        """The kind that this call meets, or nothing; and whether it is the call that was meant."""
        with self.lock:
            self.counts[port] += 1
            if self.log:
                with open(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as out:  # noqa: PTH123 - a descriptor has no path
                    out.write(f"{self.process}\t{port}\t{manner}\t{what}" + "\n")
            fault = self.fault
            if fault is None or (fault.process, fault.port) != (self.process, port):
                return "", False
            if not self.blown and self.counts[port] == fault.number:
                self.blown = True
                return fault.kind, True
            concerned = fault.kind in Call(self.process, port, manner, what).kinds
            if fault.kind == "short":
                return ("full" if manner == "put" else "") if self.blown else "", False
            return (fault.kind, False) if self.blown and concerned and fault.kind in STAYING else ("", False)
