"""Faults of a configuration, all reported at once: key path, line, sentence, hint."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backupd.config.toml_lines import KeyPath
from backupd.errors import ConfigError

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


class ConfigFaultsError(ConfigError):
    """The configuration has at least one fault; the error carries all of them."""

    def __init__(self, where: str, faults: Sequence[ConfigFault]) -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__(f'{count} in "{where}"', hint="`backupd config example` prints a commented configuration.")
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


def place(finding: Finding, lines: Mapping[KeyPath, int]) -> ConfigFault:
    """Return the finding with the line of the longest part of its key path that the file has."""
    path, message, hint = finding
    line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), None)
    return ConfigFault(spell(path), line, message, hint)


def in_file_order(findings: Iterable[Finding], lines: Mapping[KeyPath, int]) -> list[ConfigFault]:
    """Return the findings as faults, each once, from the top of the file to its end."""
    faults = dict.fromkeys(place(finding, lines) for finding in findings)
    return sorted(faults, key=lambda fault: (fault.line or 0, fault.key))
