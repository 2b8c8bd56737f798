"""README.md and the manual taken apart: their blocks as data, to be run or compared."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import tempfile
from typing import NamedTuple

from doubles.paths import ROOT

from backupd.cli.commands.manual import WRITTEN

README = ROOT / "README.md"
TOPICS = {name: ROOT / "backupd" / "manual" / f"{name}.md" for name in WRITTEN}
DOCUMENTS = (README, *TOPICS.values())

LANGUAGES = {
    "sh": "commands that are run",
    "console": "commands that are run, each with what it prints",
    "sql": "statements for PostgreSQL, run as a superuser",
    "toml": "a part of backupd's configuration",
    "conf": "a part of backupd's configuration that fits another place; its keys exist",
    "ini": "a part of somebody else's configuration",
    "text": "neither a command nor a file",
}


class Block(NamedTuple):
    document: str
    line: int
    language: str
    text: str

    @property
    def place(self):
        return f"{self.document}:{self.line}"


class Typed(NamedTuple):
    """A command of a session, and what it prints."""

    command: str
    shown: str


def blocks(path):
    """Every fenced block of a document, in order."""
    text = path.read_text()
    return [
        Block(path.name, text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def prose(path):
    """A document without its fenced blocks."""
    return re.sub(r"^```(\w*)\n(.*?)^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def session(text):
    """The commands of a `console` block; a line that ends with a backslash goes on below."""
    found = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert found[0] == "", f"a session begins with a command: {text!r}"
    for part in found[1:]:
        command, shown = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.DOTALL).groups()
        yield Typed(command, shown)


_VARIES = (
    (r"\b[0-9a-f]{4}(?: [0-9a-f]{4}){3,}\b", "<fingerprint>"),
    (r"\b\d{8}T\d{6}Z(?:-[0-9a-f]+)?", "<name>"),
    (r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?Z?)?", "<time>"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", "<hex>"),
    (r"\b\d[\d ]*(?:\.\d+)? ?(?:B|[kMG]i?B)(?:/s)?(?!\w)", "<size>"),
    (r"\b\d+(?:\.\d+)? ?(?:ms|s|min|h|d|days|seconds|minutes|hours)\b", "<span>"),
    (r"[ ─│]+", " "),
)
"""What differs from run to run: names of snapshots, instants, keys, sizes, spans, and the width of columns."""


def masked(text):
    """The text with what differs from run to run replaced by what it is; counts of rows and tenants stay."""
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return [line.strip() for line in text.strip().splitlines()]


def fits(shown, expected):
    """Whether a program printed what a document says: there, `…` is anything, and `...` any number of lines."""
    lines = [r"(?:[^\n]*\n)*" if line == "..." else _wild(line) + r"\n" for line in masked(expected)]
    return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in masked(shown))) is not None


def _wild(line):
    return r"[^\n]*".join(re.escape(piece) for piece in line.split("…"))


def run(script, folder, environment, answer, *, piped=False):
    """Run a block as a person at a terminal would, typing `answer` whenever a passphrase is asked for.

    Whoever is asked whether to go on agrees.

    Returns exit status, everything that the terminal showed, and with `piped` what went to a pipe instead: facts
    without progress.
    """
    ours, theirs = pty.openpty()
    with tempfile.TemporaryFile() as pipe:
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=pipe if piped else theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
            if re.search(rb"(?:assphrase of [^\n]*|again): $", shown):
                os.write(ours, answer.encode() + b"\n")
            elif shown.endswith(b" [y/N] "):
                os.write(ours, b"y\n")
        os.close(ours)
        status = process.wait()
        pipe.seek(0)
        return status, shown.decode(errors="replace"), pipe.read().decode(errors="replace")


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody holds the other side any more
        return b""
