"""The figures of a run that its line in the log shows: sums over everything its answer lists. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backupd.operations.service.jobs import JobKind

_SUMS: Final[Mapping[JobKind, Mapping[str, str]]] = {
    JobKind.BACKUP: {
        "rows": "backups.report.rows",
        "read": "backups.report.read",
        "new": "backups.report.new",
        "sent": "backups.report.sent",
        "objects": "backups.report.objects",
    },
    JobKind.INGEST: {"bytes": "stores.bytes"},
    JobKind.SYNC: {"tenants": "tenants"},
    JobKind.PURGE: {"objects": "regions.done.objects", "bytes": "regions.done.bytes"},
    JobKind.EXPIRE: {
        "snapshots": "stores.expired.snapshots",
        "objects": "stores.expired.objects",
        "bytes": "stores.expired.bytes",
    },
    JobKind.VERIFY: {"snapshots": "stores.verification.snapshots", "read": "stores.verification.read_size"},
    JobKind.DRILL: {"rows": "report.sizes.rows", "bytes": "report.sizes.bytes"},
}
_WORDS: Final[Mapping[JobKind, Mapping[str, str]]] = {JobKind.DRILL: {"verdict": "verdict"}}


def facts(kind: JobKind, answer: Any) -> dict[str, int | str]:
    """By name; what the answer does not hold is left out."""
    found: dict[str, int | str] = {}
    for name, path in _SUMS.get(kind, {}).items():
        numbers = [value for value in _at(answer, path.split(".")) if isinstance(value, int)]
        if numbers:
            found[name] = sum(numbers)
    for name, path in _WORDS.get(kind, {}).items():
        words = [value for value in _at(answer, path.split(".")) if isinstance(value, str)]
        if words:
            found[name] = ", ".join(words)
    return found


def _at(value: Any, path: list[str]) -> Iterator[Any]:
    if isinstance(value, list):
        for below in value:
            yield from _at(below, path)
    elif not path:
        yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
