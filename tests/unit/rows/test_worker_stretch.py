"""A stretch read by a worker gives each of its extents what it gives when it is read by itself."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from backupd.rows import worker as worker_module
from backupd.rows.protocol import CloseSegments, Closing, CopyTask, Setup, StretchTask, TaskDone, unpack_span
from backupd.rows.worker import ParentChannel, Worker

ROWS = {0: [(b"1", b"a"), (b"2", b"b")], 1: [], 2: [(b"1", b"c")], 3: [(b"3", b"d"), (b"1", b"e")], 4: []}
"""Tenant and row of each extent."""


class _Psql:
    """Answers the statements of this test, `lines` for the stretch."""

    lines: Sequence[bytes]

    def __init__(self, *_: object) -> None:
        self.rows = 0

    def lock(self, _: object) -> None:
        return

    def copy(self, sql: str, **_: object) -> Iterator[bytes]:
        lines = self.lines if sql == "all" else [b"\t".join(row) for row in ROWS[int(sql)]]
        self.rows = -1
        for line in lines:
            yield line + b"\n"
        self.rows = len(lines)


class _Packer:
    def add(self, _: object) -> None:
        return

    def close(self) -> None:
        return


def _task(number: int) -> CopyTask:
    return CopyTask(10 + number, str(number), "all", True, None, False, (), "t", 3)


def _worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    monkeypatch.setattr(worker_module, "Psql", _Psql)
    values: dict[str, Any] = dict.fromkeys(Setup.__struct_fields__, 0)
    setup = Setup(
        **{
            **values,
            "region": "be",
            "generation": "20260101T000000Z-00000000",
            "database": "app",
            "chunk_key": bytes(32),
            "tenant_key": bytes(32),
            "own_clocks": [],
            "incarnations": {},
            "index": None,
            "workers": 1,
            "pending_limit": 1 << 20,
            "open_limit": 1 << 20,
        }
    )
    return Worker(setup, ParentChannel(io.BytesIO(), io.BytesIO()), _Packer())


def _told(done: Sequence[TaskDone]) -> list[tuple[int, int, dict[str, tuple[int, int, bytes]]]]:
    """Return what matters of each: where the chunks lie may differ."""
    return [(one.task, one.rows, {name: unpack_span(packed)[:3] for name, packed in one.spans}) for one in done]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 3, 2)], ids=["in order", "in another order"])
def test_each_extent_has_what_it_has_alone(monkeypatch: pytest.MonkeyPatch, order: tuple[int, ...]) -> None:
    """Also where the server gives rows in another order: each is then read by itself."""
    stretch = StretchTask("all", [_task(number) for number in ROWS])
    _Psql.lines = [b"%d\t%s\t%s" % (number, *row) for number in order for row in ROWS[number]]
    alone = _worker(monkeypatch)
    wanted = _told([alone.copy(task) for task in stretch.extents])
    found = _worker(monkeypatch).stretch(stretch)
    assert _told(found.extents) == wanted
    assert [rows for _, rows, _ in wanted] == [2, 0, 1, 2, 0]


def test_a_worker_learns_whose_rows_there_are_without_storing_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """It then ends segments of which it knows nothing else."""
    reader = _worker(monkeypatch)
    wanted = {name for name, _ in reader.copy(_task(0)).spans}
    worker = _worker(monkeypatch)
    met = worker.meet(_task(0))
    assert (set(met.segments), len(wanted), met.worker) == (wanted, 2, 0)
    jobs: list[Any] = []
    monkeypatch.setattr(_Packer, "add", lambda _, some: jobs.extend(some))
    worker.close_segments(CloseSegments([Closing(name, b"manifest", "", None) for name in sorted(wanted)]))
    worker.finish()
    assert [(job.key.pseudonym, job.manifest, len(job.chunks)) for job in jobs if job.manifest] == [
        (name, b"manifest", 0) for name in sorted(wanted)
    ]
    assert {job.key.tenant for job in jobs} == {"1", "2"}
