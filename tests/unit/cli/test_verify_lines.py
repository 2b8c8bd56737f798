"""What `verify` says first of each store: clean only of one that held something, and what to do where none did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.cli.commands.store import verified_lines
from backupd.model.ids import ObjectName, RegionName
from backupd.operations.verify import Verification
from backupd.planning.verify import Mismatch

WRONG = (Mismatch(ObjectName("packs/x"), "is missing"),)


def found(snapshots: int, findings: tuple[Mismatch, ...] = (), *, unfilled: bool = False) -> Verification:
    return Verification(
        region=RegionName("be"), snapshots=snapshots, generations=1, keyrings=1, packs=1, sections=1, size=1, read=0,
        read_size=0, opened=0, orphans=(), orphans_size=0, leftovers=(), foreign=(), entries=0, purged=0, unpurged=0,
        aged=0, proven=(), findings=findings, unfilled=unfilled,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verified", "first", "helped"),
    [
        (found(1), "be on far: clean", False),
        (found(1, WRONG), "be on far: DAMAGED", False),
        (found(0, WRONG), "be on far: DAMAGED", False),
        (found(0), "be on far: NOTHING TO VERIFY, no snapshot is there", True),
        (
            found(0, unfilled=True),
            "be on far: NOTHING TO VERIFY, nothing was ever copied there, as far as this machine knows",
            True,
        ),
    ],
)
def test_the_verdict_is_what_was_seen(verified: Verification, first: str, helped: bool) -> None:
    """Where there was nothing to see, by which commands something comes there."""
    lines = list(verified_lines((RegionName("be"), "far"), verified, None))

    assert lines[0] == first
    assert ("`backupd backup be`" in lines[1]) is helped
    assert verified.clean is (first == "be on far: clean")


def test_what_was_not_read_is_not_verified() -> None:
    """A clean verdict without `--read-data` leaves `status` with `verified never`; both say why."""
    whole = replace(found(1), read=1)
    said = [
        any("`--read-data`" in line for line in verified_lines((RegionName("be"), "far"), one, None))
        for one in (found(1), whole)
    ]
    assert said == [True, False]


def test_a_name_that_a_message_quotes_is_not_said_twice() -> None:
    """A section's place begins with its pack's name."""
    inside = Mismatch(ObjectName("packs/x"), "'packs/x, section 3' does not have the hash its header says")
    assert inside.sentence == inside.message
    assert WRONG[0].sentence == "'packs/x' is missing"
