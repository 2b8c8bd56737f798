"""FORMAT.md says what the programs do: the same labels, and nothing of an older format."""

from __future__ import annotations

import re
from importlib import resources

from doubles.paths import RECOVER

FORMAT = resources.files("backupd").joinpath("FORMAT.md").read_text(encoding="utf-8")
LABEL = re.compile(r"\"(backupd/[0-9](?: [a-z]+)?) ?")
"""Version and purpose, without what follows: ids that each program puts there in its own way."""


def labels(text: str) -> set[str]:
    return {label.strip() for label in LABEL.findall(text)}


def test_labels_are_those_of_the_programs() -> None:
    """What is sealed or signed under a label is told under the same label: to readers, and in the script's own code."""
    folder = resources.files("backupd").joinpath("seal")
    source = "".join(path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".py"))
    assert len(labels(FORMAT)) > 4
    assert labels(source) == labels(FORMAT)
    # The script computes no tags, and so has no use for the bare version.
    assert labels(RECOVER.read_text(encoding="utf-8")) | {"backupd/2"} == labels(FORMAT)


def test_nothing_is_left_of_format_1() -> None:
    """Neither its words nor its labels, but for key files, which stayed as they were."""
    assert not re.findall(r"\b(?:containers?|BKPDPART|data key|chunk key)\b", FORMAT)
    assert {label for label in labels(FORMAT) if "/1" in label} == {"backupd/1 identity"}


def test_it_can_be_read_in_one_go() -> None:
    """What is longer than this nobody reads before writing a reader."""
    assert len(FORMAT.splitlines()) <= 300
