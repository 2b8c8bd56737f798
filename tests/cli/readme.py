"""README.md taken apart: its tables as data, its blocks of commands to be run."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "README.md"


class Block(NamedTuple):
    language: str
    text: str


def blocks():
    """Every fenced block, in order."""
    found = [
        Block(*match) for match in re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    ]
    assert len(found) > 10, "README.md lost its commands"
    return found


def table(heading):
    """The rows of the first table below a heading, as lists of cells without their backquotes."""
    section = README.read_text().split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert rows, f"no table below {heading}"
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def run(script, folder, environment, answer):
    """Run a block as a person at a terminal would, typing `answer` whenever a passphrase is asked for.

    Returns exit status and everything that was shown.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while piece := _read(ours):
        shown += piece
        if re.search(rb"(?:assphrase of [^\n]*|again): $", shown):
            os.write(ours, answer.encode() + b"\n")
    os.close(ours)
    return process.wait(), shown.decode(errors="replace")


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody holds the other side any more
        return b""
