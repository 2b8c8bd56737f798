"""Check the rules of the house that no general tool knows: names, sizes, folders and docstrings.

Run as `python scripts/lib/house.py [FOLDER ...]`; without folders, the whole package is checked. Each line printed is
one breach: the file, the line, and what the rule asks for. The exit status is 1 when there is any.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "backupd"

LONGEST_FILE = 450
LONGEST_FUNCTION = 60
LARGEST_FOLDER = 20
DEEPEST_FOLDER = 2
DEEPER_FOLDERS = {"backupd/operations/drill/checks", "backupd/cli/commands/restore"}
"""The two folders that may lie three levels below the package."""

GENERAL_GERUNDS = re.compile(
    r"(^|_)(looking|telling|saying|keeping|choosing|reading|writing|checking|finding|handing|noting|making|doing|putting|"
    r"asking|taking|giving|showing|running|serving|building|filling|planning|proving|removing|sending|placing)$"
)
PURE_FLOORS = {"planning"}
"""Folders whose name is DESIGN's own word."""

HANGING_WORDS = frozenset(
    re.findall(
        r"\w+",
        """and of in on by for from with without what who whose whom where when whether which its their it they he she
        that as at to into how because until unless if or but not also likewise same such there those these so
        after before under over between through per than while""",
    )
)
"""Words that a docstring does not begin with: the sentence would hang on the name above it."""

PRIVATE_WORDS = re.compile(
    r"\b(anew|whoever|whatever|likewise|told|tell|tells|telling|goes on from there|is not to be had|not to be had|"
    r"what is to be|hold against|gone on with|by and by)\b",
    re.IGNORECASE,
)
"""Expressions that slow a reader down; README's and the manual's plain words stand in their place."""

FEWEST_WORDS = 4

EXCEPTION = re.compile(r"\S  # (noqa: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*|type: ignore\[[a-z, -]+\])")
"""An exception from a rule of ruff or mypy, as it stands at the end of a line."""
REASON = re.compile(r"(?: -|  #) (?!noqa)\S")
"""The reason behind the last exception on a line."""


class Breach(NamedTuple):
    """One place that breaks a rule; `path` is relative to the checkout, `line` counts from 1."""

    path: str
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


class Module(NamedTuple):
    """One file of the package with its syntax tree."""

    path: str
    text: str
    tree: ast.Module


def modules(folder: str = PACKAGE) -> Iterator[Module]:
    """Read each Python file below `folder`, in the order of their paths."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text()
        yield Module(str(path.relative_to(ROOT)), text, ast.parse(text))


def class_names(found: list[Module]) -> Iterator[Breach]:
    """Report each public class whose name another module uses for a class, too."""
    places: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for module in found:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append((module.path, node.lineno))
    for name, where in places.items():
        for path, line in where[1:]:
            yield Breach(path, line, f"the class name {name} is taken by {where[0][0]}")


def module_names(found: list[Module]) -> Iterator[Breach]:
    """Report each module or folder named by a gerund of a general verb."""
    for module in found:
        for part in Path(module.path).with_suffix("").parts[1:]:
            if part not in PURE_FLOORS and GENERAL_GERUNDS.search(part):
                yield Breach(
                    module.path, 1, f"'{part}' is a gerund of a general verb; name the file by its noun or its command"
                )


def sizes(found: list[Module]) -> Iterator[Breach]:
    """Report each file and each function that is too long."""
    for module in found:
        lines = module.text.count("\n")
        if lines > LONGEST_FILE:
            yield Breach(module.path, 1, f"{lines} lines; at most {LONGEST_FILE}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION:
                yield Breach(module.path, node.lineno, f"{node.name} is longer than {LONGEST_FUNCTION} lines")


def folders(found: list[Module]) -> Iterator[Breach]:
    """Report each folder that holds too many files, lies too deep, or holds a single module."""
    files: dict[Path, list[str]] = defaultdict(list)
    for module in found:
        path = Path(module.path)
        files[path.parent] += [] if path.name == "__init__.py" else [path.name]
    for folder, names in files.items():
        if len(names) > LARGEST_FOLDER:
            yield Breach(str(folder), 1, f"{len(names)} files; at most {LARGEST_FOLDER}")
        if len(folder.parts) - 1 > DEEPEST_FOLDER and str(folder) not in DEEPER_FOLDERS:
            yield Breach(str(folder), 1, f"lies deeper than {DEEPEST_FOLDER} levels below {PACKAGE}/")
        if len(names) == 1:
            yield Breach(str(folder), 1, "a folder for one module")


def docstrings(found: list[Module]) -> Iterator[Breach]:
    """Report each docstring that is no sentence of its own, or uses an expression that only this house knows."""
    for module in found:
        for line, text, is_field in _docstrings_of(module.tree):
            words = text.split()
            first = re.sub(r"\W", "", words[0]).lower() if words else ""
            if len(words) < FEWEST_WORDS:
                yield Breach(module.path, line, f"fewer than {FEWEST_WORDS} words: {text[:60]!r}")
            elif first in HANGING_WORDS and not is_field:
                yield Breach(module.path, line, f"hangs on the name above it: {text[:60]!r}")
            elif private := PRIVATE_WORDS.search(text):
                yield Breach(module.path, line, f"says '{private.group()}': {text[:60]!r}")


def _docstrings_of(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Give line and text of each docstring; True for one that stands below a field or a constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            documented = ast.get_docstring(node, clean=True)
            if documented is not None:
                yield node.body[0].lineno, documented, False
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                    value = after.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield after.lineno, value.value, True


PRIVATE_MESSAGES = re.compile(
    r"\b(anew|whoever|likewise|gone on with|by and by|waits in vain|is to be had|(?:is|was|were|not) told)\b",
    re.IGNORECASE,
)
"""Expressions that people who read a message at night should not have to puzzle over."""


def messages(found: list[Module]) -> Iterator[Breach]:
    """Report each text in the code, docstrings apart, that uses an expression which only this house knows."""
    for module in found:
        written = {text for _, text, _ in _docstrings_of(module.tree)} | {
            node.body[0].value.value
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
        }
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in written:
                private = PRIVATE_MESSAGES.search(node.value)
                if private:
                    yield Breach(module.path, node.lineno, f"a message says '{private.group()}': {node.value[:60]!r}")


RULES = (class_names, module_names, sizes, folders, docstrings, messages)


def exceptions() -> Iterator[Breach]:
    """Report each exception from a tool's rule that gives no reason beside it, or that no tool reads."""
    for folder in (PACKAGE, "scripts", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from exceptions_of(str(path.relative_to(ROOT)), path.read_text())


def exceptions_of(path: str, text: str) -> Iterator[Breach]:
    """Report what `exceptions` does of one file's text."""
    for line, words in enumerate(text.splitlines(), 1):
        found = [*EXCEPTION.finditer(words)]
        if found and not REASON.match(words, found[-1].end()):
            yield Breach(path, line, "give the reason beside the exception: `# noqa: CODE - reason`")
        if any(one[1].startswith("type") for one in found) and not path.startswith(PACKAGE):
            yield Breach(path, line, "mypy does not look here, so there is nothing to ignore")


def breaches(folder: str = PACKAGE) -> list[Breach]:
    """Apply every rule to the package and return what breaks one below `folder`."""
    found = list(modules())
    return [breach for rule in RULES for breach in rule(found) if breach.path.startswith(folder)]


def main(chosen: list[str]) -> int:
    """Print what breaks a rule below the chosen folders."""
    found = [breach for folder in chosen or [PACKAGE] for breach in breaches(folder.rstrip("/"))]
    found += [] if chosen else exceptions()
    for breach in found:
        sys.stdout.write(f"{breach}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
