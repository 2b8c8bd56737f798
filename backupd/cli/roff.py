"""Markdown to roff, the language of man pages: what the manual is written in, as `man` shows it.

The manual's own subset: headings, paragraphs, lists, tables, blocks of code, and in a line code, emphasis and links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode

_BULLET = r"\(bu"
_INDENT = 4
"""Columns that a list item, a table's row or a block of code stands to the right."""

_LONG_WORD = re.compile(r"\S{60,}")
"""A word of code that might not fit a line, which is then broken after its commas."""


def from_markdown(text: str) -> str:
    """Return Markdown as the body of a man page: a heading of level 2 is a section, one of level 3 a part of it."""
    from markdown_it import MarkdownIt
    from markdown_it.tree import SyntaxTreeNode

    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    return "\n".join(line for node in SyntaxTreeNode(tokens).children for line in _block(node)) + "\n"


def plain(text: str) -> str:
    """Return text with everything escaped that roff would read as its own."""
    escaped = re.sub(r"[\\\-'`^~]", lambda found: _ESCAPES[found[0]], text)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


_ESCAPES = {
    "\\": r"\e",
    "-": r"\-",  # else some devices print a hyphen that no shell takes
    "'": r"\(aq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
}


def _block(node: SyntaxTreeNode) -> Iterator[str]:
    if node.type not in _BLOCKS:
        raise ValueError(f"the manual holds what no man page can show: {node.type}")
    yield from _BLOCKS[node.type](node)


def _heading(node: SyntaxTreeNode) -> Iterator[str]:
    yield f"{'.SH' if node.tag == 'h2' else '.SS'} {_inline(node)}"


def _paragraph(node: SyntaxTreeNode) -> Iterator[str]:
    after_heading = node.previous_sibling is not None and node.previous_sibling.type == "heading"
    yield from (*(() if after_heading else (".PP",)), _inline(node))


def _list(node: SyntaxTreeNode) -> Iterator[str]:
    nested = node.parent is not None and node.parent.type == "list_item"
    if nested:
        yield f".RS {_INDENT}"
    for item in node.children:
        yield f".IP {f'{item.info}.' if item.info else _BULLET} {_INDENT}"
        for number, child in enumerate(item.children):
            if child.type != "paragraph":
                yield from _block(child)
            else:
                yield from (".IP",) * bool(number)
                yield _inline(child)
    if nested:
        yield ".RE"


def _table(node: SyntaxTreeNode) -> Iterator[str]:
    head, *bodies = ([[_inline(cell) for cell in row.children] for row in part.children] for part in node.children)
    for cells in bodies[0] if bodies else ():
        yield from _entry(head[0], cells)


def _entry(headings: Sequence[str], cells: Sequence[str]) -> Iterator[str]:
    """Yield a row as a list entry, which is readable at any width: the first cell, below it the others.

    With more than two columns each cell is named by its heading; what is empty or a dash is left out.
    """
    yield from (f".TP {_INDENT}", cells[0] or r"\&")
    named = [(heading, cell) for heading, cell in zip(headings[1:], cells[1:], strict=True) if cell not in ("", r"\-")]
    for number, (heading, cell) in enumerate(named):
        if number:
            yield ".br"
        yield rf"\fI{heading}:\fR {cell}" if len(headings) > 2 and heading else cell
    if not named:
        yield r"\&"


def _code(node: SyntaxTreeNode) -> Iterator[str]:
    after_heading = node.previous_sibling is None or node.previous_sibling.type == "heading"
    yield from (*(() if after_heading else (".PP",)), f".RS {_INDENT}", ".EX")
    yield from (plain(line) if line else r"\&" for line in node.content.rstrip("\n").split("\n"))
    yield from (".EE", ".RE")


_BLOCKS: dict[str, Callable[[SyntaxTreeNode], Iterator[str]]] = {
    "heading": _heading,
    "paragraph": _paragraph,
    "bullet_list": _list,
    "ordered_list": _list,
    "table": _table,
    "fence": _code,
    "code_block": _code,
}


def _breakable(word: re.Match[str]) -> str:
    return re.sub(r"(?<=,)", r"\\:", word[0])


def _inline(node: SyntaxTreeNode) -> str:
    """Return what stands within a line of text, on one line of roff."""
    text = _text(node)
    return rf"\&{text}" if text.startswith(".") else text


def _text(node: SyntaxTreeNode) -> str:
    match node.type:
        case "text":
            return plain(node.content).removeprefix(r"\&")
        case "code_inline":
            return rf"\fB{re.sub(_LONG_WORD, _breakable, plain(node.content))}\fR"
        case "softbreak" | "hardbreak":
            return " "
    font = {"strong": r"\fB", "em": r"\fI"}.get(node.type)
    inside = "".join(map(_text, node.children))
    return rf"{font}{inside}\fR" if font else inside
