"""The text of a configuration: one file, or a main file and those that it includes, which together are one document."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from backupd.config.faults import ConfigFault, ConfigFaultsError, TextPlace, spell
from backupd.config.toml_lines import KeyPath, positions
from backupd.errors import ConfigError
from backupd.model.text import UnreadableError, from_json

MAX_BYTES = 4 << 20
"""Bytes of one file, at most."""
_INCLUDE = "include"
_PATTERN = re.compile(r"[*?[]")
_TOML_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_BUNDLE = '{"bundle":'
"""The beginning of a bundle, which is no TOML."""


class ConfigPart(NamedTuple):
    """One file of a configuration."""

    name: str
    """The file's name for people: the main file's own, an included one's as seen from the main file's folder."""
    text: str


class _Bundle(msgspec.Struct, frozen=True):
    bundle: list[ConfigPart]


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """A configuration's files, the main one first."""

    where: str
    """The path of the main file, for messages."""
    parts: tuple[ConfigPart, ...]

    def bundle(self) -> str:
        """Return all files as one text, which `read_document` reads; a single file is that text itself."""
        if len(self.parts) == 1:
            return self.parts[0].text
        return json.dumps({"bundle": self.parts}, separators=(",", ":"))

    def merged(self) -> tuple[dict[str, Any], dict[KeyPath, TextPlace], list[ConfigFault]]:
        """Return the document as values, the place of each key, and the faults of putting the files together.

        Raises ConfigFaultsError for files that are no TOML.
        """
        parsed = [self._parsed(number, part) for number, part in enumerate(self.parts)]
        merged: dict[str, Any] = {}
        places: dict[KeyPath, TextPlace] = {}
        faults: list[ConfigFault] = []
        for raw, found in parsed:
            for path in list(_taken(merged, raw)):
                other, own = places[path], found[path]
                first = f"{other.file or self.parts[0].name}, line {other.line}"
                faults.append(ConfigFault(spell(path), own.line, f"is set in {first}, too", "Write it once.", own.file))
            _merge(merged, raw)
            places = {**found, **places}
        return merged, places, faults

    def _parsed(self, number: int, part: ConfigPart) -> tuple[dict[str, Any], dict[KeyPath, TextPlace]]:
        file = part.name if number else ""
        try:
            raw = _toml(part.text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigFaultsError(self.where, [_syntax_fault(str(error), file)]) from None
        places = {path: TextPlace(number, line, file) for path, line in positions(part.text).items()}
        if number and _INCLUDE in raw:
            message = "stands in an included file; only the main file includes others"
            fault = ConfigFault(_INCLUDE, places[_INCLUDE,].line, message, "Move it there.", file)
            raise ConfigFaultsError(self.where, [fault])
        return raw, places


def read_document(path: Path) -> ConfigDocument:
    """Read a configuration and the files that it includes, in the order of their names.

    Raises ConfigError for a file that cannot be read.
    """
    text = read_text(path)
    if text.startswith(_BUNDLE):
        return ConfigDocument(str(path), _unbundled(text, path))
    parts = [ConfigPart(path.name, text)]
    for name, file in _included(text, path.parent):
        parts.append(ConfigPart(name, read_text(file)))
    return ConfigDocument(str(path), tuple(parts))


def _unbundled(text: str, path: Path) -> tuple[ConfigPart, ...]:
    try:
        parts = from_json(text.encode(), _Bundle).bundle
    except UnreadableError:
        parts = []
    if not parts:
        raise ConfigError(
            f'configuration "{path}" begins like a bundle of files, and is none', hint="Write TOML there."
        )
    return tuple(parts)


def read_text(path: Path) -> str:
    """Read the text of a configuration, with line ends as newlines.

    Raises ConfigError when `path` is no readable UTF-8 text of at most MAX_BYTES.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ConfigError(f'configuration "{path}" is larger than {MAX_BYTES} bytes')
        return data.decode().replace("\r\n", "\n")
    except FileNotFoundError:
        hint = "Name the file with --config or BACKUPD_CONFIG; `backupd config example` prints a commented one."
        raise ConfigError(f'no configuration at "{path}"', hint=hint) from None
    except (OSError, ValueError) as error:
        names = {UnicodeDecodeError: "not UTF-8", ValueError: "no name of a file"}
        reason = error.strerror if isinstance(error, OSError) else names[type(error)]
        raise ConfigError(f'cannot read configuration "{path}": {reason}') from None


def _toml(text: str) -> dict[str, Any]:
    """Parse TOML. Raises TOMLDecodeError, also where tomllib itself raises something else."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise tomllib.TOMLDecodeError("A number has too many digits") from None
    except RecursionError:
        raise tomllib.TOMLDecodeError("Lists or tables are nested too deeply") from None


def _included(text: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that a main file includes, each once; text that cannot be parsed includes nothing."""
    try:
        given = _toml(text).get(_INCLUDE)
    except tomllib.TOMLDecodeError:
        return
    patterns = [one for one in given if isinstance(one, str) and one] if isinstance(given, list) else []
    seen: set[Path] = set()
    for pattern in patterns:
        base, below = (Path("/"), pattern.lstrip("/")) if pattern.startswith("/") else (folder, pattern)
        try:
            found = sorted(base.glob(below)) if _PATTERN.search(pattern) else [base / below]
        except (OSError, ValueError, NotImplementedError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            hint = "Name files, as in conf.d/*.toml."
            raise ConfigError(f'"include" names no files: {reason}', hint=hint) from None
        for file in found:
            hidden = _PATTERN.search(pattern) and file.name.startswith(".")
            if not hidden and file not in seen:
                seen.add(file)
                yield str(file if pattern.startswith("/") else file.relative_to(folder)), file


def _taken(merged: Mapping[str, Any], raw: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the keys of `raw` that are set already, but for tables, which add up."""
    for name, value in raw.items():
        if name not in merged:
            continue
        if isinstance(value, dict) and isinstance(merged[name], dict):
            yield from _taken(merged[name], value, (*above, name))
        else:
            yield (*above, name)


def _merge(merged: dict[str, Any], raw: Mapping[str, Any]) -> None:
    for name, value in raw.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            _merge(merged[name], value)
        else:
            merged.setdefault(name, value)


def _syntax_fault(text: str, file: str) -> ConfigFault:
    """Convert an error of tomllib, which names single characters and keys, never values."""
    match = _TOML_PLACE.search(text)
    line = int(match[1]) if match and match[1] else None
    return ConfigFault("", line, f"is not TOML: {_TOML_PLACE.sub('', text).lower()}", "", file)
