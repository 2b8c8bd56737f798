"""The one way in which commands go over regions and stores, and print what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from backupd.cli import output
from backupd.errors import BackupdError
from backupd.model.ids import RegionName

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a command, or of its work on one place, as programs and as people get it."""

    value: Any
    """The object that `--json` prints; keys are only ever added to it."""
    lines: Iterable[str | output.TextTable] = ()
    """The text for standard output, which stands in place of the object; a table is drawn on a terminal."""
    remarks: Iterable[str] = ()
    """Lines for standard error, beside the text: failures, and what was left out."""
    status: int = 0
    """The exit status, one of errors.EXIT_CODES."""
    literal: bool = False
    """Whether the lines are there to be copied into a file or a shell: a narrow terminal does not break them."""

    def print(self, *, as_json: bool) -> int:
        """Print the object or the text, and return the exit status."""
        if as_json:
            output.print_json(self.value)
        else:
            self.show()
        return self.status

    def show(self) -> None:
        """Print the text and the remarks."""
        show = output.print_lines if self.literal else output.print_prose
        for line in self.lines:
            if isinstance(line, output.TextTable):
                output.print_table(line)
            else:
                show([line])
        output.print_prose(self.remarks, sys.stderr)


@dataclass(frozen=True, slots=True)
class Results:
    """The replies of all places, in the order of the work. Their text was printed as each of them came."""

    as_json: bool
    replies: list[Reply] = field(default_factory=list)
    quiet: bool = False
    """Whether people see only what went wrong."""

    def add(self, reply: Reply) -> None:
        """Collect the reply of one place, and show it to people at once."""
        self.replies.append(reply)
        if self.as_json:
            return
        if self.quiet and not reply.status:
            reply = replace(reply, lines=())
        reply.show()

    @property
    def status(self) -> int:
        """The first exit status that is not 0."""
        return next((reply.status for reply in self.replies if reply.status), 0)

    def finish(self, key: str, answer: Callable[..., object] = dict) -> int:
        """Print one object with all replies under `key`, where programs read it, and return the exit status.

        `answer` makes the object of its only key: a class of `model.answers`, or a dictionary.
        """
        if self.as_json:
            output.print_json(answer(**{key: tuple(reply.value for reply in self.replies)}))
        return self.status


def for_each(places: Iterable[T], work: Callable[[T], Reply], *, as_json: bool, quiet: bool = False) -> Results:
    """Do the work for each place and collect the replies; `quiet` as `Results` has it.

    Raises what the work raises: a place that fails ends the command. InterruptedRunError passes, too.
    """
    results = Results(as_json, quiet=quiet)
    for place in places:
        results.add(work(place))
    return results


def for_each_store(
    places: Iterable[tuple[RegionName, Sequence[str]]],
    opened: Callable[[RegionName], AbstractContextManager[T]],
    work: Callable[[T, str], Reply],
    *,
    as_json: bool,
    part: Callable[..., object] = dict,
    quiet: bool = False,
) -> Results:
    """Open each region and do the work for each of its stores; a store that fails stops no other.

    `part` makes a failed store's object of its `region`, `store` and `error`.

    Raises what opening a region raises. InterruptedRunError passes.
    """
    results = Results(as_json, quiet=quiet)
    for region, stores in places:
        with opened(region) as keeper:
            for store in stores:
                try:
                    reply = work(keeper, store)
                except BackupdError as error:
                    reply = failed(part, region, store, error)
                results.add(reply)
    return results


def failed(part: Callable[..., object], region: str, store: str, error: BackupdError) -> Reply:
    """Return the reply of a store of a region where the work failed."""
    return Reply(
        part(region=region, store=store, error=output.as_object(error)),
        remarks=output.failure_lines(error, f"{region} on {store}"),
        status=error.exit_code,
    )
