"""Questions to somebody at a terminal, and their answers."""

from __future__ import annotations

import getpass
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence

from backupd.cli import output
from backupd.errors import BackupdError, RefusedError

STOPPED = "setup was ended; nothing was written"
AGAIN = "Run it again when you have all answers."


def say(*lines: str) -> None:
    """Print lines, broken between words where the terminal ends."""
    output.print_prose(lines)


def show(*lines: str) -> None:
    """Print lines that are there to be copied, as they are."""
    output.print_lines(lines)


def complain(error: BackupdError) -> None:
    """Say what was wrong, and what to do about it."""
    say(*(f"  {text}" for text in (error.message, error.hint) if text))


def tell(text: str) -> None:
    """Print an empty line and a paragraph."""
    say("", *textwrap.wrap(text, shutil.get_terminal_size().columns - 1, break_on_hyphens=False))


def ask(question: str, default: str = "", check: Callable[[str], str] = lambda _text: "") -> str:
    """Ask until there is an answer that the check has no complaint about; an empty one is the default.

    Raises RefusedError at the end of the input.
    """
    while True:
        sys.stdout.write(output.printable(f"{question}{f' [{default}]' if default else ''}: "))
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            raise RefusedError(STOPPED, hint=AGAIN)
        answer = line.strip() or default
        wrong = check(answer) if answer else "needs an answer"
        if not wrong:
            return answer
        say(f"  That {wrong}.")


def ask_if_any(question: str) -> str:
    """Ask once; no answer is one, too."""
    return "" if (answer := ask(question, "none")) == "none" else answer


def agree(question: str, *, default: bool = False) -> bool:
    """Ask for a yes or a no."""
    answer = ask(f"{question} (yes or no)", "yes" if default else "no", _yes_or_no)
    return answer.lower().startswith("y")


def _yes_or_no(text: str) -> str:
    return "" if text.lower() in ("y", "yes", "n", "no") else "is neither yes nor no"


def choose(question: str, choices: Sequence[str]) -> int:
    """Show choices with their numbers, the best first, and return the place of the chosen one."""
    say(*(f"  {number}  {choice}" for number, choice in enumerate(choices, 1)))
    known = {str(number) for number in range(1, len(choices) + 1)}
    return int(ask(question, "1", lambda text: "" if text in known else "is no number of the list")) - 1


def secret(question: str) -> str:
    """Ask without showing what is typed; no answer is one, too."""
    try:
        return getpass.getpass(f"{question}: ")
    except EOFError:
        raise RefusedError(STOPPED, hint=AGAIN) from None
