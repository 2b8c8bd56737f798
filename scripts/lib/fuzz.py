"""Coverage-guided fuzzing of every parser of bytes from outside, with atheris; `tests/fuzz` holds the parsers.

Each parser is tried for some seconds in a process of its own, from the seeds that the tests use. What is printed is
how many inputs were tried, how many places of the code they reached, and what was found: an exception that nobody
documents, bytes that are not written back as they were read, memory above the limit, or an input that takes long.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.console import Voice, thousands

MEMORY = 1024
"""Megabytes that the process of one parser may take, with atheris itself."""
SLOWEST = 20
"""Seconds that one input may take."""
LONGEST = 1 << 16
"""Bytes of the longest input."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one parser."""

    name: str
    inputs: int
    reached: int
    finding: str
    """Where the input lies that was not read or refused; empty when there is none."""


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--one"]:
        return _one(arguments[1], arguments[2:])
    options = _options(arguments)
    asked = subprocess.run([*_PROGRAM, "--one", "", "--names"], check=True, capture_output=True, text=True)
    known = asked.stdout.split()
    strangers = set(options.parsers) - set(known)
    if strangers:
        print(f"no such parser: {', '.join(sorted(strangers))}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    options.findings.mkdir(parents=True, exist_ok=True)
    voice, tried = Voice(), []
    for name in options.parsers or known:
        tried.append(_tried(name, options.seconds, options.findings))
        if tried[-1].finding:
            voice.bad(f"{name}: {tried[-1].finding}")
    rows = [(one.name, thousands(one.inputs), thousands(one.reached), one.finding or "nothing") for one in tried]
    headings = ("parser", "inputs", "places reached", "found")
    if options.markdown:
        lines = [headings, ("---", "---:", "---:", "---"), *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        voice.table(headings, rows, frozenset({1, 2}))
    return 1 if any(one.finding for one in tried) else 0


_PROGRAM = (sys.executable, "-m", "lib.fuzz")


def _tried(name: str, seconds: int, findings: Path) -> Tried:
    with tempfile.TemporaryDirectory(prefix="backupd-fuzz-") as folder:
        limits = (f"-max_total_time={seconds}", f"-rss_limit_mb={MEMORY}", f"-timeout={SLOWEST}", f"-max_len={LONGEST}")
        artifacts = f"-artifact_prefix={folder}/found-"
        command = [*_PROGRAM, "--one", name, f"{folder}/corpus", *limits, artifacts, "-print_final_stats=1"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, errors="replace")
        kept = [_kept(path, name, findings) for path in sorted(Path(folder).glob("found-*"))]
    reached = [int(number) for number in re.findall(r"cov: (\d+)", done.stderr)]
    inputs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    finding = ", ".join(kept)
    if done.returncode and not finding:
        finding = f"the fuzzer ended with status {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}"
    if finding:
        (findings / f"{name}.log").write_text(done.stderr[-20_000:])
    return Tried(name, int(inputs[1]) if inputs else 0, max(reached, default=0), finding)


def _kept(path: Path, name: str, findings: Path) -> str:
    kept = findings / f"{name}-{path.name.removeprefix('found-')}"
    shutil.copy(path, kept)
    return str(kept)


def _one(name: str, arguments: Sequence[str]) -> int:
    """Fuzz one parser in this process, which atheris ends."""
    import atheris

    with atheris.instrument_imports(include=["backupd"]):
        from fuzz_parsers import PARSERS
    if "--names" in arguments:
        print("\n".join(sorted(PARSERS)))
        return 0
    from fuzz_seeds import seeds

    corpus = Path(arguments[0])
    corpus.mkdir()
    for number, data in enumerate(seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(data)
    parser = PARSERS[name]

    def run(data: bytes) -> None:
        parser(data)

    atheris.Setup([sys.argv[0], *arguments], run)
    atheris.Fuzz()
    return 0


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("parsers", nargs="*", metavar="PARSER", help="names of parsers [all]")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser [60]")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-found"), help="folder for what fails [fuzz-found]")
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
