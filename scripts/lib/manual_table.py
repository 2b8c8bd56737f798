"""The tables of measurements in the manual: the script that measures puts its table where it stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "backupd" / "manual" / "design.md"


def put(table: Sequence[str], page: Path = PAGE) -> None:
    """Replace the table with the same headings by this one. Raises ValueError where the page has none, or two."""
    lines = page.read_text(encoding="utf-8").splitlines()
    places = [at for at, line in enumerate(lines) if line == table[0]]
    if len(places) != 1:
        raise ValueError(f"'{page.name}' has {len(places)} tables with the headings {table[0]}")
    first = end = places[0]
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    page.write_text("\n".join([*lines[:first], *table, *lines[end:], ""]), encoding="utf-8")
