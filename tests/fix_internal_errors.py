"""Whatever a test does to backupd, an error without a name of its own is a failure of that test.

What programs print is looked at as a test reads it, in this process the report itself, and daemons' logs at their end.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from backupd.cli import output
from backupd.errors import EndingError

WORDS = "internal error: "


def found_in(text: object) -> list[str]:
    """The lines of an output, bytes or text, that name an internal error."""
    lines = text.decode(errors="replace") if isinstance(text, bytes) else text
    return [line.strip() for line in lines.splitlines() if WORDS in line] if isinstance(lines, str) else []


@pytest.fixture(autouse=True)
def no_internal_errors(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fails the test at its end. Who makes such an error on purpose takes the lines seen so far out of the list."""
    seen: list[str] = []
    usual, reported, printed = subprocess.Popen.communicate, output.as_object, output.exit_code

    def communicate(self: Any, *arguments: Any, **keywords: Any) -> Any:
        outputs = usual(self, *arguments, **keywords)
        for text in outputs:
            seen.extend(found_in(text))
        return outputs

    def note(error: BaseException) -> None:
        if not isinstance(error, EndingError):
            seen.append(f"{WORDS}{type(error).__name__}: {error}")

    def as_object(error: BaseException) -> Any:
        note(error)
        return reported(error)

    def exit_code(error: BaseException) -> int:
        note(error)
        return printed(error)

    monkeypatch.setattr(subprocess.Popen, "communicate", communicate)
    monkeypatch.setattr(output, "as_object", as_object)
    monkeypatch.setattr(output, "exit_code", exit_code)
    yield seen
    assert seen == [], "an error of backupd has no name"
