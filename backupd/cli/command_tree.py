"""The commands as data: what man pages, completion and manual print of the parser, so that nothing is typed twice."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class OptionFact:
    """One option or argument of a command."""

    names: tuple[str, ...]
    """The option's names as they are typed; none for an argument."""
    value: str | None
    """The word that stands for its value in help, such as FILE; nothing for a flag."""
    about: str

    @property
    def typed(self) -> str:
        """Return the option as it is typed: its names, and the word for its value."""
        return " ".join(filter(None, (", ".join(self.names), self.value)))


@dataclass(frozen=True, slots=True)
class CommandFact:
    """One command, or a group of commands, which has `below` and does nothing by itself."""

    path: tuple[str, ...]
    """The words after `backupd`; none for the program itself."""
    paragraphs: tuple[str, ...]
    """The help text: prose on one line a paragraph, lines that belong apart as an indented block."""
    arguments: tuple[OptionFact, ...]
    options: tuple[OptionFact, ...]
    below: tuple[CommandFact, ...] = ()

    @property
    def name(self) -> str:
        """Return the full name, as it is typed after `backupd`."""
        return " ".join(self.path)

    @property
    def summary(self) -> str:
        """Return the first paragraph of the help text, which is one or two sentences."""
        return self.paragraphs[0]

    def every(self) -> Iterator[CommandFact]:
        """Yield this one and all below it, in the order of help."""
        yield self
        for one in self.below:
            yield from one.every()


def command_tree(parser: Any, path: tuple[str, ...] = ()) -> CommandFact:
    """Return a parser's command with all commands below it, without those that are hidden."""
    shown = [one for one in parser.params if not getattr(one, "hidden", False) and "--help" not in one.opts]
    return CommandFact(
        path,
        tuple(_paragraphs(parser.help or "")),
        tuple(_option(one) for one in shown if one.param_type_name == "argument"),
        tuple(_option(one) for one in shown if one.param_type_name == "option"),
        tuple(
            command_tree(below, (*path, name))
            for name, below in getattr(parser, "commands", {}).items()
            if not below.hidden
        ),
    )


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b"):
            yield "\n".join("    " + line for line in paragraph.removeprefix("\b\n").split("\n"))
        else:
            yield " ".join(paragraph.split())


def _option(parameter: Any) -> OptionFact:
    is_argument = parameter.param_type_name == "argument"
    value = None if getattr(parameter, "is_flag", False) else str(parameter.metavar or parameter.name.upper())
    return OptionFact(() if is_argument else tuple(parameter.opts), value, getattr(parameter, "help", None) or "")
