"""Mutation testing with mutmut: a module is changed in one place at a time, and its tests have to notice.

It works on a copy of the checkout. A mutant that no test notices is printed with its change; the status is 1 when there
are more of them than `--allow`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.console import Voice

CHECKOUT = Path(__file__).resolve().parents[2]
LAWS, UNIT = "tests/laws", "tests/unit"
MODULES: dict[str, tuple[str, ...]] = {
    "planning/retention": (f"{UNIT}/planning/test_retention.py", f"{LAWS}/test_retention_laws.py"),
    "planning/expiry": (f"{LAWS}/test_expiry_laws.py",),
    "planning/lifecycle": (f"{UNIT}/planning/test_lifecycle.py", f"{LAWS}/test_lifecycle_laws.py"),
    "planning/deadlines": (f"{UNIT}/planning/test_deadlines.py", f"{LAWS}/test_deadline_laws.py"),
    "planning/ledger_facts": (f"{UNIT}/planning/test_ledger_facts.py", f"{LAWS}/test_ledger_laws.py"),
    "planning/verify": (f"{UNIT}/planning/test_verify_words.py", f"{LAWS}/test_verify_laws.py"),
    "planning/sightings": (f"{UNIT}/planning/test_sightings.py",),
    "planning/load_order": (f"{UNIT}/planning/test_load_order.py",),
    "model/ranges": (f"{UNIT}/model/test_ranges.py", f"{LAWS}/test_seal_laws.py", "tests/fuzz"),
    "seal/section_format": (f"{UNIT}/seal", f"{LAWS}/test_seal_laws.py", "tests/vectors", "tests/fuzz"),
    "seal/pack": (f"{UNIT}/seal", f"{LAWS}/test_seal_laws.py", "tests/vectors", "tests/fuzz"),
    "seal/keyring": (f"{UNIT}/seal", f"{LAWS}/test_seal_laws.py", "tests/vectors", "tests/fuzz"),
    "repository/manifests": (f"{UNIT}/repository/test_manifests.py", f"{LAWS}/test_manifest_laws.py", "tests/vectors"),
}
"""Modules of planning, lifecycle, format and verification, each with the tests that have to notice."""
CONFIG = """[mutmut]
paths_to_mutate = backupd/{module}.py
tests_dir =
{tests}
also_copy =
    backupd
    scripts
    tests
pytest_add_cli_args =
    --hypothesis-seed=0
"""


@dataclass(frozen=True, slots=True)
class Mutated:
    """What came of one module."""

    module: str
    killed: int
    survived: tuple[str, ...]
    """The names of mutants that no test noticed."""
    untested: int
    """Mutants that no test even ran."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    voice, found = Voice(), []
    for module in options.modules or MODULES:
        with tempfile.TemporaryDirectory(prefix="backupd-mutants-") as folder:
            found.append(_mutated(module, Path(folder), voice))
    rows = [
        (one.module, str(one.killed), str(len(one.survived)), str(one.untested), f"{_share(one):.0f} %")
        for one in found
    ]
    headings = ("module", "killed", "survived", "not run", "score")
    if options.markdown:
        print("\n".join(f"| {' | '.join(line)} |" for line in (headings, ("---", *["---:"] * 4), *rows)))
    else:
        voice.table(headings, rows, frozenset({1, 2, 3, 4}))
    return 1 if sum(len(one.survived) for one in found) > options.allow else 0


def _share(one: Mutated) -> float:
    everything = one.killed + len(one.survived) + one.untested
    return 100 * one.killed / everything if everything else 100.0


def _mutated(module: str, folder: Path, voice: Voice) -> Mutated:
    for name in ("backupd", "scripts", "tests"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("README.md", "pyproject.toml", "requirements.lock", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder / name)
    tests = "\n".join(f"    {path}" for path in MODULES[module])
    (folder / "setup.cfg").write_text(CONFIG.format(module=module, tests=tests))
    program = [sys.executable, "-m", "mutmut"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def mutmut(*arguments: str) -> str:
        done = subprocess.run(
            [*program, *arguments], cwd=folder, env=environment, check=False, capture_output=True, text=True
        )
        return done.stdout + done.stderr

    log = mutmut("run", "--max-children", "1")
    listed = mutmut("results", "--all", "true")
    states = dict(re.findall(r"^\s*(\S+): (.+)$", listed, re.MULTILINE))
    if not states or "not checked" in states.values():
        raise RuntimeError(f"mutmut made nothing of {module}: {log[-2000:]}")
    survived = tuple(name for name, state in states.items() if state in {"survived", "suspicious"})
    for name in survived:
        voice.output([line for line in mutmut("show", name).splitlines() if re.match(r"[-+@]", line)])
    killed = sum(state in {"killed", "timeout", "segfault", "caught by type check"} for state in states.values())
    return Mutated(module, killed, survived, sum(state == "no tests" for state in states.values()))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("modules", nargs="*", choices=[*MODULES, []], metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--allow", type=int, default=0, metavar="N", help="mutants that may survive [0]")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
