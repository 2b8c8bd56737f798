"""Print what requirements.lock holds for some of pyproject.toml's extras, as requirements with hashes for pip.

Run as `python scripts/lib/locked.py [EXTRA | =PACKAGE ...]`; without arguments, the libraries of the program alone are
printed, and `=PACKAGE` stands for one package with what it needs in place of the program. `--guide` writes what
`recover` needs into RECOVER.md, which lies on every store. The lock file names below each package what needs it, so
nothing is asked of a network.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

GUIDE = ROOT / "backupd" / "repository" / "RECOVER.md"
"""The file that says how to read a store without backupd. Its last part is what this script writes."""
FOR_RECOVER = ("cryptography", "zstandard")
_PART = "# packages\n"
_PACKAGE = re.compile(r"[A-Za-z0-9._-]+")


class Locked(NamedTuple):
    """One package of the lock file."""

    text: str
    """The lines that pip reads: name, version, marker and hashes."""
    wanted_by: frozenset[str]
    """The packages that need it, by their normal names; pyproject.toml itself is left out."""


def normal(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> dict[str, Locked]:
    """Read every package of a lock file, by its normal name."""
    found = {}
    for block in re.split(r"\n(?=[A-Za-z0-9])", text.strip()):
        lines = block.splitlines()
        comments = [line.strip().removeprefix("#").strip() for line in lines if line.lstrip().startswith("#")]
        parents = {normal(word.removeprefix("via").strip()) for word in comments} - {"", "backupd (pyproject-toml)"}
        pinned = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        name = _PACKAGE.match(block)
        if name is None:
            raise ValueError(f"no package: {block[:40]!r}")
        found[normal(name[0])] = Locked(pinned, frozenset(parents))
    return found


def wanted_directly(project: dict[str, object], extras: Iterable[str]) -> set[str]:
    """Return the packages that pyproject.toml asks for itself and for some extras, by their normal names."""
    table = project["project"]
    requirements, done, queue = list(table["dependencies"]), set(), list(extras)
    while queue:
        extra = queue.pop()
        if extra in done:
            continue
        done.add(extra)
        for requirement in table["optional-dependencies"][extra]:
            inner = re.fullmatch(r"backupd\[([\w,-]+)\]", requirement)
            if inner:
                queue += inner[1].split(",")
            else:
                requirements.append(requirement)
    return {normal(_PACKAGE.match(requirement)[0]) for requirement in requirements}


def closure(lock: dict[str, Locked], first: Iterable[str]) -> list[str]:
    """Return the first packages and all that they need, sorted; raises KeyError for one that is not locked."""
    chosen: set[str] = set()
    queue = list(first)
    while queue:
        name = queue.pop()
        if name not in chosen:
            lock[name]
            chosen.add(name)
            queue += [other for other, package in lock.items() if name in package.wanted_by]
    return sorted(chosen)


def guide_with(lock: dict[str, Locked], text: str) -> str:
    """Return the guide with the locked packages of `recover` as its last part, which pip reads as it stands."""
    packages = "".join(f"{lock[name].text}\n" for name in closure(lock, FOR_RECOVER))
    return text.partition(_PART)[0] + _PART + packages


def main(arguments: list[str]) -> int:
    """Print the requirements, and name what is not locked."""
    lock = read_lock((ROOT / "requirements.lock").read_text())
    if arguments == ["--guide"]:
        GUIDE.write_text(guide_with(lock, GUIDE.read_text()))
        return 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    alone = {normal(word[1:]) for word in arguments if word.startswith("=")}
    extras = [word for word in arguments if not word.startswith("=")]
    first = alone if alone and not extras else alone | wanted_directly(project, extras)
    try:
        names = closure(lock, first)
    except KeyError as error:
        sys.stderr.write(f"{error.args[0]} is not in requirements.lock: run scripts/lock\n")
        return 1
    sys.stdout.write("".join(f"{lock[name].text}\n" for name in names))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
