"""Faults of a configuration, all reported at once: key path, line, sentence, hint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backupd.config.toml_lines import KeyPath
from backupd.errors import ConfigError
from backupd.model.text import counted

Finding = tuple[KeyPath, str, str]
"""Key path, message and hint."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class ConfigFault:
    """One fault of a configuration, or one piece of advice about it. Never holds a configured secret."""

    key: str
    """Key path as a person writes it: `stores.zurich.host_keys[0]`; empty for the whole file."""
    line: int | None
    """The line of the key in the file, or of the nearest table around a missing key."""
    message: str
    hint: str = ""
    file: str = ""
    """The included file that has it; empty for the main file."""

    @property
    def place(self) -> str:
        """Return the place as it stands before the text: `line 3: `, `conf.d/be.toml, line 3: `, or nothing."""
        parts = [part for part in (self.file, f"line {self.line}" if self.line else "") if part]
        return ", ".join(parts) + ": " if parts else ""


class TextPlace(NamedTuple):
    """The place of a key in a configuration's files."""

    order: int
    """The number of the file, 0 for the main one."""
    line: int
    file: str = ""
    """The name of an included file; empty for the main file."""


class ConfigFaultsError(ConfigError):
    """The configuration has at least one fault; the error carries all of them."""

    def __init__(self, where: str, faults: Sequence[ConfigFault]) -> None:
        super().__init__(
            f'{counted(len(faults), "fault")} in "{where}"',
            hint="`backupd config example` prints a commented configuration.",
        )
        self.faults = tuple(faults)


def spell(path: KeyPath) -> str:
    """Write a key path as people do: `("stores", "my store", "host_keys", 0)` as `stores."my store".host_keys[0]`."""
    spelt = ""
    for part in path:
        if isinstance(part, int):
            spelt += f"[{part}]"
        else:
            name = part if _BARE.fullmatch(part) else json.dumps(part)
            spelt += f".{name}" if spelt else name
    return spelt


def place(finding: Finding, places: Mapping[KeyPath, TextPlace]) -> tuple[int, ConfigFault]:
    """Return the number of the file where the longest known part of the finding's key path stands, and the finding."""
    path, message, hint = finding
    found = next((places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), None)
    if found is None:
        return 0, ConfigFault(spell(path), None, message, hint)
    return found.order, ConfigFault(spell(path), found.line, message, hint, found.file)


def in_file_order(findings: Iterable[Finding], places: Mapping[KeyPath, TextPlace]) -> list[ConfigFault]:
    """Return the findings as faults, each once, from the top of the main file to the end of the last one."""
    faults = dict.fromkeys(place(finding, places) for finding in findings)
    return [fault for _, fault in sorted(faults, key=lambda one: (one[0], one[1].line or 0, one[1].key))]
