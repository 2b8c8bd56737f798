"""Jobs on their way from a worker to its packer."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Sequence

import pytest

from backupd.model.ids import ClassTag, DatabaseTag, Pseudonym, SegmentTags, TenantTag
from backupd.rows.packer import RunKey, SectionJob
from backupd.rows.packer_process import MOST_BUFFERS, PIPE, PackerProcess, _received, _WorkerEndedError

TAGS = SegmentTags(TenantTag("1" * 32), ClassTag("2" * 16), DatabaseTag("3" * 16))


def key(number: int) -> RunKey:
    return RunKey(Pseudonym(f"{number:032x}"), TAGS, "uploaded", "Quillfeather & Sons", bytes([number]) * 32)


def job(number: int, chunks: Sequence[bytes], manifest: bytes = b"", *, last: bool = False) -> SectionJob:
    return SectionJob(key(number), 7 + number, chunks, os.urandom(16 * len(chunks)), manifest, last)


def passed_on(lists: Sequence[Sequence[SectionJob]], *, ended: bool = True) -> list[SectionJob]:
    """Send lists of jobs through a real pipe, and return what comes out."""
    source, sink = os.pipe()

    def send() -> None:
        packer = PackerProcess(sink, 0)
        for jobs in lists:
            packer.add(jobs)
        if ended:
            packer.close()
        else:
            os.close(sink)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        with os.fdopen(source, "rb", buffering=0) as pipe:
            return [one._replace(chunks=list(map(bytes, one.chunks))) for jobs in _received(pipe) for one in jobs]
    finally:
        thread.join()


@pytest.mark.parametrize(
    "lists",
    [
        [],
        [[job(1, [b"one row\n"])]],
        [[job(1, [b"a", b"", b"bc"]), job(2, [], b"a manifest", last=True)], [job(1, [], last=True)]],
        [[job(1, [os.urandom(5) for _ in range(3 * MOST_BUFFERS)])]],
        [[job(n, [os.urandom(PIPE // 3)] * 10) for n in range(3)], [job(2, [b"x"])]],
    ],
    ids=["nothing", "one", "small ones", "many chunks", "more than a pipe holds"],
)
def test_jobs_arrive_as_they_were_sent(lists: list[list[SectionJob]]) -> None:
    assert passed_on(lists) == [one for jobs in lists for one in jobs]


def test_a_worker_that_ends_before_the_end_is_noticed() -> None:
    with pytest.raises(_WorkerEndedError):
        passed_on([[job(1, [b"one row\n"])]], ended=False)


def test_a_key_is_forgotten_on_both_sides_with_the_manifest_that_ends_its_segment() -> None:
    """There may be tens of thousands of segments, and each is ended once."""
    source, sink = os.pipe()
    packer = PackerProcess(sink, 0)
    mark = SegmentTags(TenantTag("4" * 32), ClassTag("5" * 16), DatabaseTag("6" * 16))

    def held() -> int:
        gc.collect()
        return sum(isinstance(one, RunKey) and one.tags == mark for one in gc.get_objects())

    with os.fdopen(source, "rb", buffering=0) as pipe:
        coming = _received(pipe)
        for number in range(3):
            ended = job(number, [b"a row\n"], b"a manifest", last=True)
            packer.add([ended._replace(key=RunKey(ended.key.pseudonym, mark, "uploaded", None, bytes(32)))])
            ((got,),) = (next(coming),)
            assert got.key.tags == mark
            del got, ended
            assert held() == 0
        packer.close()
        assert list(coming) == []
