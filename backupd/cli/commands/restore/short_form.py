"""The short form of the restore commands: `restore be app ...` without the name of the command.

At the worst hour people type what they remember. The options say which command is meant: a folder means `files`, no
database `region`, `--plan` `preview`, and so on. What remains is `restore database`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from typer.core import TyperGroup

from backupd.errors import UsageError

_FLAGS = {"--plan": "preview", "--runbook": "runbook", "--in-place": "in-place"}
"""Flags that only name a command; they are taken out."""

_CLEAN = "--clean"
"""The flag that pg_restore has for another purpose: a restore that only cleaned up would pass for one that restored."""

_FOLDER = "--target-dir"
"""The option that means `files`; it stays."""


class RestoreGroup(TyperGroup):
    """The group of restore commands, which also takes the short form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after the short form was written out; the class of `ctx` has no public name."""
        return super().parse_args(ctx, written_out(args, self.commands))


def written_out(arguments: Sequence[str], commands: Collection[str]) -> list[str]:
    """Put the command's name in front of arguments that begin with a region; others are returned as they are.

    Raises UsageError for `--clean`, which is a command of its own.
    """
    if not arguments or arguments[0].startswith("-") or arguments[0] in commands:
        return list(arguments)
    names = [argument.partition("=")[0] for argument in arguments]
    if _CLEAN in names:
        raise UsageError(
            "--clean restores nothing", hint="`backupd restore clean --target DSN` removes what killed restores left."
        )
    flag = next((flag for flag in _FLAGS if flag in names), None)
    rest = [argument for argument in arguments if argument != flag]
    places = _places(rest)
    if flag is not None:
        return [_FLAGS[flag], *rest]
    if _FOLDER in names:
        return ["files", *rest]
    return ["database" if len(places) > 1 else "region", *rest]


def _places(arguments: Sequence[str]) -> list[str]:
    """Give the region and the database, as far as they stand first."""
    count = next((number for number, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    return list(arguments[: min(count, 2)])
