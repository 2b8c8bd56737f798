"""A vector as a value, read and written."""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass
from pathlib import Path

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    name: str
    fields: dict[str, str]
    data: bytes

    def binary(self, field: str) -> bytes:
        return base64.b64decode(self.fields[field])

    def write(self) -> None:
        head = "".join(f"{name}: {value}\n" for name, value in self.fields.items())
        body = "\n".join(textwrap.wrap(base64.b64encode(self.data).decode(), 120))
        (CASES / f"{self.name}.txt").write_text(f"{head}\n{body}\n", encoding="utf-8")


def read_cases() -> list[Case]:
    """Every case there is, by name."""
    return [_read(path) for path in sorted(CASES.glob("*.txt"))]


def _read(path: Path) -> Case:
    head, _, body = path.read_text(encoding="utf-8").partition("\n\n")
    pairs = [line.partition(": ") for line in head.splitlines()]
    return Case(path.stem, {name: value for name, _, value in pairs}, base64.b64decode(body))
