"""Transcripts of the command line: how they are written down, and how one is played.

A file is blocks, separated by blank lines. A block is lines, in this order:

    # Why this block exists, one sentence.
    edit OLD => NEW        the block's configuration is tests/cli/base.toml with OLD, which it must hold, replaced
    write NAME: TEXT       a file in the block's folder; \\n in TEXT is a line's end
    env NAME=VALUE
    $ ARGUMENTS            of backupd, as a shell would split them; run in the block's folder
    = STATUS               the exit status
    > TEXT                 a line of standard output
    ! TEXT                 a line of standard error

`<folder>` is the block's folder everywhere. `...` in an expected line is anything, and alone it is any number of lines.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from doubles.paths import ROOT

BASE = Path(__file__).with_name("base.toml")


@dataclass
class Block:
    file: str
    reason: str = ""
    edits: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    environment: list[str] = field(default_factory=list)
    command: str = ""
    status: int = -1
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)


def read(path):
    """The blocks of a file."""
    blocks = [parse(path.name, text) for text in re.split(r"\n{2,}", path.read_text().strip())]
    assert blocks, f"{path.name} holds no transcript"
    return blocks


def parse(file, text):
    block = Block(file)
    for line in text.split("\n"):
        mark, _, rest = line.partition(" ")
        match mark:
            case "#":
                block.reason += rest
            case "edit":
                block.edits.append(rest)
            case "write":
                block.writes.append(rest)
            case "env":
                block.environment.append(rest)
            case "$":
                block.command = rest
            case "=":
                block.status = int(rest)
            case ">":
                block.out.append(rest)
            case "!":
                block.err.append(rest)
            case _:
                raise AssertionError(f"{file}: a line that means nothing: {line!r}")
    assert block.reason, f"{file}: a block without its reason: {text!r}"
    assert block.status >= 0, f"{file}: {block.reason}: no status"
    return block


def play(block, folder):
    """Run the block's command for real, and compare."""

    def here(text):
        return text.replace("<folder>", str(folder))

    config = here(BASE.read_text())
    for edit in block.edits:
        old, _, new = here(edit).replace("\\n", "\n").partition(" => ")
        assert old in config, f"the base configuration does not hold {old!r}"
        config = config.replace(old, new, 1)
    (folder / "backupd.toml").write_text(config)
    for text in block.writes:
        name, _, content = here(text).partition(": ")
        (folder / name).write_text(content.replace("\\n", "\n"))
    environment = {"PATH": os.environ["PATH"], "BACKUPD_CONFIG": "backupd.toml", "COLUMNS": "80"}
    environment |= dict(line.split("=", 1) for line in map(here, block.environment))
    done = subprocess.run(
        [sys.executable, "-m", "backupd", *shlex.split(here(block.command))],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    seen = f"\n= {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, seen
    assert done.returncode == block.status, seen
    assert fits(done.stdout, [here(line) for line in block.out]), seen
    assert fits(done.stderr, [here(line) for line in block.err]), seen


def fits(text, expected):
    """Whether the lines of `text` are the expected ones, wildcards filled."""
    lines = [r"(?:[^\n]*\n)*" if line == "..." else wild(line) + r"\n" for line in expected]
    return re.fullmatch("".join(lines), text) is not None


def wild(line):
    return r"[^\n]*".join(re.escape(piece) for piece in line.split("..."))
