"""A wait on a terminal counts its seconds, and leaves nothing behind."""

import io
import threading

from backupd.cli import waiting_line
from backupd.cli.waiting_line import counted_seconds


class Terminal(io.StringIO):
    """Remembers, and says when something was shown."""

    def __init__(self):
        super().__init__()
        self.shown = threading.Event()

    def isatty(self):
        return True

    def flush(self):
        self.shown.set()


def test_seconds_are_counted_until_it_ends(monkeypatch):
    """Not at once: most waits are over by then; and the line is wiped out at the end."""
    monkeypatch.setattr(waiting_line, "_SECOND", 0.01)
    terminal = Terminal()
    with counted_seconds("asking zurich", out=terminal):
        assert terminal.shown.wait(60)

    shown = terminal.getvalue()
    assert shown.startswith("\rasking zurich: for 2 s")
    last = shown.rpartition("s\r")[2]
    assert last.strip(" \r") == ""
    assert last.endswith("\r")


def test_a_program_sees_nothing_of_it(monkeypatch):
    """Neither in a pipe nor with --json."""
    monkeypatch.setattr(waiting_line, "_SECOND", 0.01)
    pipe, terminal = io.StringIO(), Terminal()
    with counted_seconds("asking zurich", out=pipe), counted_seconds("asking zurich", quiet=True, out=terminal):
        assert not terminal.shown.wait(0.2)

    assert (pipe.getvalue(), terminal.getvalue()) == ("", "")
