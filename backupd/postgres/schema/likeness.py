"""Two schema archives compared, entry by entry: what one lacks, has besides, or makes otherwise."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from backupd.postgres.schema.archive import ArchiveReader, join_archive, unpack_entries
from backupd.postgres.target.naming import renamed

_DUMPED_BY = re.compile(rb"\0(\d+)[\x20-\x7e]*\Z")
"""The last text of an archive's head: the version of the pg_dump that wrote it."""
_NOT_VALID = (" NOT VALID", " NOT ENFORCED")


class _Named(NamedTuple):
    kind: str
    namespace: str
    tag: str


@dataclass(frozen=True, slots=True)
class ComparedSchema:
    """A schema as its archive tells it. Holds names: data."""

    program: int
    """Major version of the pg_dump that wrote it; 0 when it does not say."""
    entries: dict[_Named, Counter[str]] = field(repr=False)
    """Definitions and owners by name; a few kinds have several of one name."""


class Difference(NamedTuple):
    """One entry that is not alike in both."""

    kind: str
    """What it makes, as archives call it: `FK CONSTRAINT`, `INDEX`."""
    how: str
    """`missing`, `added` or `changed`."""


def read_schema(head: bytes, files: Iterable[bytes]) -> ComparedSchema:
    """The schema in a `ddl-head` and `ddl` files.

    Raises DamageError, SourceError for files that make no archive.
    """
    archive = join_archive(head, [entry for file in files for entry in unpack_entries(file)])
    found: dict[_Named, Counter[str]] = {}
    for entry in ArchiveReader(io.BytesIO(archive).read).entries():
        tag, definition = entry.tag, entry.definition
        if entry.description.startswith("DATABASE") or tag.startswith("DATABASE "):
            # What a database is called is no part of its schema: a copy of it has another name.
            tag, definition = "DATABASE", renamed(definition, "database")
        name = _Named(entry.description, entry.namespace, tag)
        found.setdefault(name, Counter())[f"{entry.owner}\0{definition}"] += 1
    version = _DUMPED_BY.search(head)
    return ComparedSchema(int(version[1]) if version else 0, found)


def differences(expected: ComparedSchema, found: ComparedSchema) -> list[Difference]:
    """What is not alike; definitions count only where the same major version of pg_dump wrote both."""
    wording = expected.program == found.program
    result: list[Difference] = []
    for name in expected.entries.keys() | found.entries.keys():
        one, other = expected.entries.get(name, Counter()), found.entries.get(name, Counter())
        more = other.total() - one.total()
        result += [Difference(name.kind, "added" if more > 0 else "missing")] * abs(more)
        if wording and not more:
            result += [Difference(name.kind, "changed")] * (one - other).total()
    return result


def not_valid(schema: ComparedSchema) -> int:
    """At most how many constraints the schema itself says were never validated."""
    return sum(
        count * sum(map(definition.count, _NOT_VALID))
        for definitions in schema.entries.values()
        for definition, count in definitions.items()
    )
