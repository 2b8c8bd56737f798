"""The man pages: one for each command, group of commands and topic of the manual, made from what defines them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from backupd.cli.command_tree import CommandFact, OptionFact
from backupd.cli.roff import from_markdown, plain

_FILES_OF_PROGRAMS = 5
_MISCELLANEOUS = 7
_TOPIC_PAGES = {"configuration": ("backupd.toml", _FILES_OF_PROGRAMS), "format": ("backupd-format", _FILES_OF_PROGRAMS)}
"""Topics whose page has another name or section than the others; `backupd.toml` is what one looks for."""
_LEFT_OUT = ("commands",)
"""Topics without a page, as each command has one."""
_SEE_ALSO = "**backupd**(1), **backupd.toml**(5), **backupd-exit-status**(7)"


class ManPage(NamedTuple):
    """One page: the file's path below a folder that `man` reads, such as `man1/backupd.1`, and its text."""

    path: str
    text: str


def man_pages(tree: CommandFact, topics: Mapping[str, str], version: str) -> Iterator[ManPage]:
    """Make every page, from the tree of commands and the Markdown of each topic of the manual."""
    for command in tree.every():
        name = "-".join(("backupd", *command.path))
        yield _page(name, 1, _sentence(command.summary), _command_body(command, topics), version)
    for topic, text in topics.items():
        if topic not in _LEFT_OUT:
            name, section = _TOPIC_PAGES.get(topic, (f"backupd-{topic}", _MISCELLANEOUS))
            _, _, about, body = text.split("\n", 3)
            yield _page(name, section, _sentence(about), f"{body}\n## SEE ALSO\n\n{_SEE_ALSO}\n", version)


def _page(name: str, section: int, about: str, body: str, version: str) -> ManPage:
    head = (
        '.\\" Made by `backupd manual --man FOLDER`.',
        ".nr HY 0",  # commands and keys are not cut by hyphens, in any paragraph
        f'.TH "{plain(name.upper())}" "{section}" "" "backupd {plain(version)}" "backupd"',
        ".ad l",
        ".SH NAME",
        rf"{plain(name)} \- {plain(about)}",
    )
    return ManPage(f"man{section}/{name}.{section}", "\n".join(head) + "\n" + from_markdown(body))


def _sentence(text: str) -> str:
    """Return the first sentence without its full stop, as stands in lists of pages."""
    return text.split(". ", maxsplit=1)[0].removesuffix(".")


def _command_body(command: CommandFact, topics: Mapping[str, str]) -> str:
    parts = [f"## SYNOPSIS\n\n{_synopsis(command)}", "## DESCRIPTION\n\n" + "\n\n".join(command.paragraphs)]
    if command.below:
        rows = ((f"**{'-'.join(('backupd', *one.path))}**(1)", one.summary) for one in command.below)
        parts.append("## COMMANDS\n\n" + _table(rows))
    for title, facts in (("ARGUMENTS", command.arguments), ("OPTIONS", command.options)):
        if facts:
            parts.append(f"## {title}\n\n" + _table((f"`{one.typed}`", one.about) for one in facts))
    if not command.path:
        parts.append("## EXIT STATUS\n\n" + topics["exit-status"].split("\n", 4)[4])
        pages = (
            _TOPIC_PAGES.get(topic, (f"backupd-{topic}", _MISCELLANEOUS)) for topic in topics if topic not in _LEFT_OUT
        )
        parts.append("## SEE ALSO\n\n" + ", ".join(f"**{name}**({section})" for name, section in pages))
    else:
        parts.append(f"## SEE ALSO\n\n{_SEE_ALSO}")
    return "\n\n".join(parts) + "\n"


def _synopsis(command: CommandFact) -> str:
    words = [f"**{' '.join(('backupd', *command.path))}**"]
    words += ["[*OPTION*]…"] if command.options else []
    words += ["*COMMAND*"] if command.below else [_argument(one) for one in command.arguments]
    return " ".join(words)


def _argument(fact: OptionFact) -> str:
    return f"*{fact.value}*".replace("[", "\\[").replace("*\\[", "\\[*").replace("]*", "*]")


def _table(rows: Iterator[tuple[str, str]]) -> str:
    lines = (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    return "\n".join(("| name | meaning |", "|---|---|", *lines))
