"""Man pages: one for each command and topic, which `man` shows without a warning and finds by what it is about."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import backupd
from backupd.cli import roff
from backupd.cli.application import build
from backupd.cli.command_tree import command_tree
from backupd.cli.commands import manual
from backupd.cli.man_pages import man_pages

TREE = command_tree(build())
PAGES = {
    page.path: page.text
    for page in man_pages(TREE, {topic: manual.text_of(build(), topic) for topic in manual.topics()}, "1.2.3")
}
ENVIRONMENT = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "80"}


def shown(path):
    command = ("man", "--warnings", "--encoding=UTF-8", "--local-file", str(path))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == "", path
    return re.sub(r".\x08", "", done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages as `backupd manual --man` writes them."""
    folder = tmp_path_factory.mktemp("man")
    manual_command = ("-m", "backupd", "manual", "--man", str(folder))
    subprocess.run([sys.executable, *manual_command], check=True, timeout=60)
    return folder


def test_the_command_writes_every_page(folder):
    """Below man1, man5 and man7, and nothing else; the version is the program's."""
    written = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert written.keys() == PAGES.keys()
    assert f'"backupd {roff.plain(backupd.__version__)}"' in written["man1/backupd.1"]


def test_man_shows_each_page_without_a_warning(folder):
    """Each begins with its name and what it is about, and has as much text as its source."""
    for path in PAGES:
        text = shown(folder / path)
        assert re.search(r"^NAME\n +backupd[a-z.-]* - [A-Za-z]", text, re.MULTILINE), path


def test_every_page_can_be_found_by_what_it_is_about(folder):
    """`apropos` reads the line under NAME with this program."""
    command = ("lexgrog", *(str(folder / path) for path in PAGES))
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == len(PAGES)
    assert "parse failed" not in done.stdout


def test_every_command_and_option_has_its_place(folder):
    """The page of a command names every option, spelt so that it can be copied, and what it means."""
    for command in TREE.every():
        text = " ".join(shown(folder / "man1" / f"{'-'.join(('backupd', *command.path))}.1").split())
        for option in (*command.arguments, *command.options):
            assert option.typed in text, (command.name, option)
            assert " ".join(option.about.replace("`", "").split()) in text, (command.name, option)


def test_every_topic_has_a_page():
    """The commands have pages of their own; the configuration's is that of the file."""
    for topic in set(manual.topics()) - {"commands", "configuration", "format"}:
        assert f"man7/backupd-{topic}.7" in PAGES
    assert {"man5/backupd.toml.5", "man5/backupd-format.5"} <= PAGES.keys()


def test_what_the_manual_says_stands_in_the_page(folder):
    """Code is indented and left as it is, a table becomes a list, and no sentence is lost."""
    text = shown(folder / "man7" / "backupd-service.7")
    assert '\n           backup = "daily 01:30"\n' in text
    assert re.search(r"\n +node\n +for: backupd.service, backupd@REGION.service\n", text)
    source = re.sub(r"^```.*$|^\| *\|.*$", "", manual.text_of(build(), "service"), flags=re.MULTILINE)
    assert set(re.findall(r"[A-Za-z]{3,}", source)) - set(re.findall(r"[A-Za-z]{3,}", text)) == set()


@pytest.mark.parametrize(
    ("markdown", "line"),
    [
        (".hidden is a file", r"\&.hidden is a file"),
        ("'quoted' text", r"\(aqquoted\(aq text"),
        ("`a\\b --c`", r"\fBa\eb \-\-c\fR"),
        ("**bold** and *lean*", r"\fBbold\fR and \fIlean\fR"),
        ("a [link](https://example.com)", "a link"),
        ("one\ntwo", "one two"),
    ],
)
def test_nothing_in_a_text_is_read_as_a_request(markdown, line):
    """What roff would read as its own is escaped, also at the start of a line."""
    assert roff.from_markdown(f"## S\n\n{markdown}\n") == f".SH S\n{line}\n"


def test_what_cannot_be_shown_is_refused():
    """Nobody loses a part of the manual silently."""
    with pytest.raises(ValueError, match="blockquote"):
        roff.from_markdown("> quoted\n")
