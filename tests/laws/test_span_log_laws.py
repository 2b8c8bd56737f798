"""The spans read for each segment come back whole and in order, however little of them memory holds."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupd.errors import BackupdError, DamageError
from backupd.model.ids import Pseudonym
from backupd.operations.backup import collect
from backupd.operations.backup.collect import SpanLog
from backupd.rows.spill import Residue, Spill, merged

MARKER = b"Quillfeather & Sons"


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1 << 30),
    segments=st.integers(1, 40),
    tasks=st.integers(0, 12),
    most=st.sampled_from([0, 500, 1 << 20]),
    piece=st.sampled_from([7, 64, 1 << 18]),
)
def test_every_span_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    segments: int,
    tasks: int,
    most: int,
    piece: int,
) -> None:
    """As it was added, for its segment only, and twice; also when every one is spilled, cut, and merged."""
    monkeypatch.setattr(collect, "_MOST", most)
    monkeypatch.setattr(collect, "_PIECE", piece)
    dice = random.Random(seed)
    log = SpanLog(tmp_path_factory.mktemp("spool") / "spans")
    added: defaultdict[str, list[tuple[int, bytes]]] = defaultdict(list)
    names = [Pseudonym(f"{number:032x}") for number in range(segments)]
    for task in range(tasks):
        for name in dice.sample(names, dice.randint(0, segments)):
            span = dice.randbytes(dice.randint(0, 90))
            log.add(name, task, span)
            added[name].append((task, span))
    for _ in range(2):
        assert {name: log.of(name) for name in names} == {name: added[name] for name in names}
        log.rewind()


def test_what_is_spilled_is_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digests of rows tell whether somebody has guessed them: none is in the file; one bit changed is noticed."""
    monkeypatch.setattr(collect, "_MOST", 100)
    log = SpanLog(tmp_path / "spans")
    for task in range(30):
        log.add(Pseudonym(f"{task % 5:032x}"), task, MARKER * 3)
    data = bytearray((tmp_path / "spans").read_bytes())
    assert data
    assert MARKER not in data
    data[-1] ^= 1
    (tmp_path / "spans").write_bytes(data)
    with pytest.raises(DamageError, match="altered"):
        [log.of(Pseudonym(f"{number:032x}")) for number in range(5)]


def test_residues_come_in_the_order_they_were_added(tmp_path: Path) -> None:
    """Segment by segment over all runs of all files; within a segment file by file and run by run."""
    files = []
    for number in range(2):
        one = Spill(tmp_path / f"{number}.spill")
        for run in range(3):
            one.add_run([Residue(name, bytes([number, run])) for name in "abc"])
        files.append(one.written())
    found = [(residue.pseudonym, *residue.piece) for residue in merged(files)]
    assert found == [(name, number, run) for name in "abc" for number in range(2) for run in range(3)]


def test_a_spill_that_is_gone_is_named(tmp_path: Path) -> None:
    """With the cure, and not as an error of the program."""
    written = Spill(tmp_path / "spill")
    written.add_run([Residue("a", b"x")])
    (tmp_path / "spill").unlink()
    with pytest.raises(BackupdError, match="the spool cannot be read"):
        list(merged([written.written()]))
