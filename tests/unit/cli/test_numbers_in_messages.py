"""Numbers and their nouns in everything that is said: one row, two rows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import backupd

_NOUNS = (
    "rows|segments|objects|snapshots|databases|tables|tenants|stores|packs|sections|keyrings|entries|reports|folders|"
    "servers|sequences|extents|faults|files|schemas|drills|purges|incarnations|uploads|records"
)
_AFTER_A_NUMBER = re.compile(rf" (?:[a-z]+ )?(?:{_NOUNS})\b")
_VERB = re.compile(r" (?:were|are|have|do|lead|need|differ|refer|belong|wait)\b")
_NUMBERS = ("len(", "count", "number", "purged", "missing", "left_out", "times", "before", "others", "sequences")


def _faults(text: ast.JoinedStr) -> Iterator[str]:
    for value, following in zip(text.values, text.values[1:], strict=False):
        if isinstance(value, ast.FormattedValue) and isinstance(following, ast.Constant):
            said, number = str(following.value), ast.unparse(value.value)
            if number.startswith(("counted(", "counts(")):
                if _VERB.match(said) and "key" not in number:  # several keys, always
                    yield f"{number}:{said}"
            elif number.split(".")[-1].startswith(_NUMBERS) and _AFTER_A_NUMBER.match(said):
                yield f"{number}:{said}"


def test_nothing_is_said_of_1_rows_or_of_row_in_brackets() -> None:
    """Numbers are written by `counted`, with a noun that fits, and no verb behind that fits only many."""
    found = []
    for path in sorted(Path(backupd.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found += [f"{path.name}:{node.lineno} {fault}" for fault in _faults(node)]
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.search(r"\w\(s\)[ ,.]", node.value)
            ):
                found.append(f"{path.name}:{node.lineno} {node.value[:60]}")
    assert found == []
