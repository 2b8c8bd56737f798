"""Going over places: what is collected, what is printed when, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backupd.cli.output import TextTable
from backupd.cli.run import Reply, for_each, for_each_store
from backupd.errors import DamageError, InterruptedRunError, StoreError
from backupd.model.ids import RegionName

BE, CH = RegionName("be"), RegionName("ch")
PLACES = [(BE, ["zurich", "cellar"]), (CH, ["zurich"])]


class Opener:
    """Opens regions, and remembers which are open and in which order they were opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []

    @contextmanager
    def __call__(self, region: RegionName) -> Iterator[str]:
        self.opened.append(region)
        try:
            yield region
        finally:
            self.closed.append(region)


def work(region: str, store: str) -> Reply:
    """Fails on one store, finds damage on another."""
    if (region, store) == ("be", "zurich"):
        raise StoreError("it is full", hint="Make room.")
    damaged = store == "cellar"
    return Reply(
        {"region": region, "store": store}, [f"{region} on {store}"], status=DamageError.exit_code if damaged else 0
    )


def test_a_store_that_fails_stops_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    """The others are done, the failure has its place, and the exit status is that of the first failure."""
    opener = Opener()

    status = for_each_store(PLACES, opener, work, as_json=False).finish("stores")

    shown = capsys.readouterr()
    assert status == StoreError.exit_code
    assert shown.out == "be on cellar\nch on zurich\n"
    assert shown.err == "backupd: be on zurich: it is full\n  Make room.\n"
    assert opener.opened == opener.closed == ["be", "ch"]


def test_programs_get_one_object_with_every_store(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the work, failures among them; people's lines are not printed."""
    status = for_each_store(PLACES, Opener(), work, as_json=True).finish("stores")

    shown = capsys.readouterr()
    stores = json.loads(shown.out)["stores"]
    assert status == StoreError.exit_code
    assert [(one["region"], one["store"]) for one in stores] == [("be", "zurich"), ("be", "cellar"), ("ch", "zurich")]
    assert stores[0]["error"] == {
        "kind": "Store",
        "exit_code": StoreError.exit_code,
        "message": "it is full",
        "hint": "Make room.",
        "retryable": False,
    }
    assert shown.err == ""


def test_an_interruption_ends_the_work_at_once() -> None:
    """It is no failure of a store: nothing more is done, and what is open is closed."""
    opener, done = Opener(), []

    def stopped(region: str, store: str) -> Reply:
        done.append((region, store))
        raise InterruptedRunError("stopped by SIGTERM")

    with pytest.raises(InterruptedRunError):
        for_each_store(PLACES, opener, stopped, as_json=False)

    assert done == [("be", "zurich")]
    assert opener.closed == ["be"]


def test_the_text_of_a_place_is_printed_when_its_work_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    """A long run over many places shows what it has done so far."""
    seen: list[str] = []

    def one(place: str) -> Reply:
        seen.append(capsys.readouterr().out)
        return Reply(place, [place])

    results = for_each(["a", "b"], one, as_json=False)

    assert seen == ["", "a\n"]
    assert (results.finish("places"), capsys.readouterr().out) == (0, "b\n")


def test_a_failure_that_no_place_can_carry_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`for_each` collects replies only; an error is the whole command's."""
    with pytest.raises(StoreError):
        for_each(["zurich"], lambda store: work("be", store), as_json=True)

    assert capsys.readouterr().out == ""


def test_the_first_status_that_is_not_zero_counts() -> None:
    """Whichever place it comes from."""
    replies = [Reply({}, status=status) for status in (0, 7, 10)]

    assert for_each(replies, lambda reply: reply, as_json=True).status == 7


def test_a_reply_is_an_object_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines, tables and remarks are for people; programs get the object alone."""
    reply = Reply({"a": 1}, ["one", TextTable(("name", "n"), [("x", 2)])], ["beware"], 10)

    assert reply.print(as_json=False) == 10
    assert capsys.readouterr() == ("one\nname  n\nx     2\n", "beware\n")
    assert reply.print(as_json=True) == 10
    assert capsys.readouterr() == ('{"a":1}\n', "")


def test_quiet_is_silent_about_what_went_well(capsys):
    """Remarks are printed all the same, and a failure with all its text; programs get everything."""
    replies = {"good": Reply("good", ["text of good"], ["remark"]), "bad": Reply("bad", ["text of bad"], status=7)}
    results = for_each(replies, replies.__getitem__, as_json=False, quiet=True)
    assert results.status == 7
    shown = capsys.readouterr()
    assert shown.out == "text of bad\n"
    assert shown.err == "remark\n"
    for_each(replies, replies.__getitem__, as_json=True, quiet=True).finish("all")
    assert capsys.readouterr().out == '{"all":["good","bad"]}\n'
