"""Line numbers of the keys of a TOML text, which `tomllib` does not return."""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_GAP = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t\r\n,]*(?:#[^\n]*[ \t\r\n,]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^\s,\]}#][^,\]}#\r\n]*")


def positions(text: str) -> dict[KeyPath, int]:
    """Return the 1-based line of every table, key and array element of `text`, which `tomllib` must have accepted."""
    scan = _Scan(text)
    scan.document()
    return scan.lines


class _Scan:
    """One pass over a valid document. Errors need no handling: `tomllib` has refused all that this cannot read."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._counts: dict[KeyPath, int] = {}
        self._counted = self._counted_to = 0

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._take("[["):
                table = self._header(array=True)
            elif self._take("["):
                table = self._header(array=False)
            else:
                self._pair(table)
            self._skip(_GAP)

    def _header(self, *, array: bool) -> KeyPath:
        line = self._line()
        path: KeyPath = ()
        names = self._key()
        for place, name in enumerate(names):
            path = (*path, name)
            self._note(path, line)
            if array and place == len(names) - 1:
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
                self._note(path, line)
        self._take("]]" if array else "]")
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._key():
            path = (*path, name)
            self._note(path, line)
        self._take("=")
        self._skip(_BLANK)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        if self._take("["):
            index = 0
            self._skip(_SPACE)
            while not self._take("]"):
                self._note((*path, index), self._line())
                self._value((*path, index))
                index += 1
                self._skip(_SPACE)
        elif self._take("{"):
            self._skip(_SPACE)
            while not self._take("}"):
                self._pair(path)
                self._skip(_SPACE)
        else:
            self._skip(_STRING) or self._skip(_SCALAR)

    def _key(self) -> tuple[str, ...]:
        """Read a dotted key and the blanks around it."""
        names = []
        while True:
            self._skip(_BLANK)
            text = self._skip(_STRING)
            names.append(_unquote(text) if text else self._skip(_BARE_KEY))
            self._skip(_BLANK)
            if not self._take("."):
                return tuple(names)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match[0]

    def _take(self, token: str) -> bool:
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _note(self, path: KeyPath, line: int) -> None:
        self.lines.setdefault(path, line)

    def _line(self) -> int:
        # Counted on from the last place: from the start each time, a long file would take the square of its length.
        self._counted += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._counted + 1


def _unquote(text: str) -> str:
    name: str = tomllib.loads(f"name = {text}")["name"]
    return name
