"""README and the manual agree with the program: what they show is run, what they name exists."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from itertools import takewhile
from typing import Annotated

import pytest
import readme
from doubles.samples.example_config import OUR_KEY, PLACEHOLDER
from doubles.servers import postgres
from doubles.servers.sshd import Sshd
from pydantic import TypeAdapter
from reader import Reader

from backupd.cli.application import build
from backupd.cli.commands import manual
from backupd.config import load, schema
from backupd.config.faults import ConfigFaultsError
from backupd.config.reference import keys
from backupd.errors import EXIT_CODES
from backupd.model.alerts import ALERTS
from backupd.operations.monitoring.metrics import METRICS

GUIDE = readme.ROOT / "backupd" / "repository" / "RECOVER.md"


def printed(topic):
    return manual.text_of(build(), topic)


def row(*cells):
    return "| " + " | ".join(cells) + " |"


@pytest.fixture
def reader(tmp_path, bare_python):
    with postgres.running(15) as server, Sshd() as account:
        one = Reader(tmp_path, server, account, bare_python)
        yield one
        one.close()


@pytest.mark.longest
@pytest.mark.timeout(900)
def test_every_command_in_readme_and_manual_works(reader):
    """Followed from the first key to a stolen keeper, on real servers, each block does what is said."""
    quick_start = [block for block in readme.blocks(readme.README) if block.language != "console"]
    for block in quick_start:
        reader.follow(block)
    for topic in readme.TOPICS.values():
        for block in readme.blocks(topic):
            reader.follow(block)

    restored = reader.server.sql("app_restored", "SELECT id, tenant_id, title FROM issue ORDER BY id")
    assert restored == reader.server.sql("app", "SELECT id, tenant_id, title FROM issue ORDER BY id")
    assert reader.server.sql("app_again", "SELECT count(*) FROM country") == [(2,)]
    assert list((reader.folder / "checkout" / "recovered").rglob("README.txt"))
    assert list((reader.folder / "checkout" / "rows").rglob("README.txt"))


def test_the_session_in_the_readme_is_what_happens(reader):
    """The first thing a reader sees is what the program prints, with a keeper at hand."""
    blocks = readme.blocks(readme.README)
    for block in takewhile(lambda block: "config check" not in block.text, blocks):
        if block.language != "console":
            reader.follow(block)
    for block in readme.blocks(readme.TOPICS["keeper"])[:1]:
        reader.follow(block)

    for block in blocks:
        if block.language == "console":
            reader.follow(block)


def test_the_small_configuration_is_complete():
    """The one in the README needs no key more than it shows, and one's own signer in place of what is no key."""
    first = next(block.text for block in readme.blocks(readme.README) if block.language == "toml")
    with pytest.raises(ConfigFaultsError) as caught:
        load.parse(first, "README.md")
    assert [fault.key for fault in caught.value.faults] == ["trust.signers[0]", "trust.keepers[0]"]
    first = first.replace(PLACEHOLDER, OUR_KEY)

    checked = load.parse(first, "README.md")

    assert list(checked.regions) == ["be"]
    assert isinstance(checked, schema.Config)


@pytest.mark.parametrize("path", [readme.README, readme.TOPICS["restore"], GUIDE], ids=lambda path: path.name)
def test_recover_is_shown_with_the_keepers_key(path):
    """Without it, the script stops at the ledger of a keeper who joined after `init`."""
    shown = re.findall(r"^.*/recover .*--out.*$", path.read_text(), re.MULTILINE)
    assert shown
    assert [line for line in shown if "--keeper " not in line] == []


def test_the_keeper_is_named_before_the_repository_is_made():
    """The repository names the keepers that are configured at `init`, and no later ones."""
    texts = [block.text for block in readme.blocks(readme.README) if block.language != "console"]
    named, made = (next(at for at, text in enumerate(texts) if words in text) for words in ("keepers = ", "init be"))
    assert named < made


def test_the_readme_is_short():
    """At most 220 lines and 14 KB, wrapped at 100."""
    text = readme.README.read_text()
    assert len(text.splitlines()) <= 220
    assert len(text.encode()) <= 14_000
    assert [line for line in text.splitlines() if len(line) > 100] == []


@pytest.mark.parametrize("path", readme.DOCUMENTS, ids=lambda path: path.name)
def test_every_block_says_what_it_is(path):
    """No command stands where no test runs it: not indented, not under a language nobody follows."""
    blocks = readme.blocks(path)
    assert {block.language for block in blocks} <= set(readme.LANGUAGES)
    assert not re.findall(r"\n\n(?: {4}|\t).*", readme.prose(path))
    for block in blocks:
        if block.language in ("text", "ini"):
            assert not re.search(r"^(?:\$ |backupd |scripts/|systemctl )", block.text, re.MULTILINE), block.place
        if block.language == "conf":
            section = re.search(r"^\[+([a-z.]+)\]+$", block.text, re.MULTILINE)[1]
            section = section.replace("zurich", "NAME").replace("regions.be", "regions.NAME")
            written = {f"{section}.{key}" for key in re.findall(r"^(\w+) = ", block.text, re.MULTILINE)}
            assert written <= {key.path for key in keys()}, block.place
        if block.language == "console":
            assert all(typed.shown.strip() for typed in readme.session(block.text)), block.place


@pytest.mark.parametrize("path", readme.DOCUMENTS, ids=lambda path: path.name)
def test_every_document_is_wrapped(path):
    """At 100 columns, but for tables and for what is copied as it is."""
    lines = [line for line in readme.prose(path).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 100] == []


@pytest.mark.parametrize("topic", manual.topics())
def test_every_topic_has_a_title_and_says_what_it_is_about(topic):
    """In its first and third line, from which `backupd manual` makes its list."""
    title, empty, about, *_ = printed(topic).split("\n")
    assert title.startswith("# ")
    assert empty == ""
    assert about.endswith(".")
    assert len(about) <= 110


def test_the_topics_are_the_files():
    """No file without a topic, no topic without its file."""
    folder = readme.ROOT / "backupd" / "manual"
    assert {path.stem for path in folder.iterdir()} == set(manual.WRITTEN)


def test_every_link_leads_somewhere():
    """Of README and manual: to files that are there."""
    for path in readme.DOCUMENTS:
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
            assert target.startswith("https://") or (path.parent / target.partition("#")[0]).exists(), (path, target)


def test_every_topic_that_is_named_exists():
    """In README, manual, code, units and scripts; and somebody names a topic at all."""
    named = {}
    places = [*readme.DOCUMENTS, *(readme.ROOT / "backupd").rglob("*.py"), readme.ROOT / "systemd" / "alerts.yml"]
    for path in places:
        for topic in re.findall(r"backupd manual ([a-z][a-z-]*)", path.read_text()):
            named.setdefault(topic, path)
    assert {"restore", "alerts", "incidents", "configuration"} <= named.keys()
    assert {topic: path for topic, path in named.items() if topic not in manual.topics()} == {}


def test_the_code_points_to_rows_of_the_table_of_trust():
    """Each row has a place in the code that names it: where what it speaks of is read, or checked."""
    rows = set(re.findall(r"^\| ([^|]+?) \|", printed("trust"), re.MULTILINE))
    code = "\n".join(path.read_text() for path in (readme.ROOT / "backupd").rglob("*.py"))
    named = set(re.findall(r"`backupd manual trust`,\s+row\s+\*([^*]+)\*", code))
    assert named == rows - {"read"}


def test_the_code_refers_to_nothing_outside():
    """No chapter of a document that is not in the package."""
    for path in (readme.ROOT / "backupd").rglob("*.py"):
        assert not re.search(r"DESIGN|research|README(?!\.txt)|[OPCA]§", path.read_text()), path


def test_the_readme_names_every_topic():
    section = readme.README.read_text().partition("## The manual")[2].partition("\n## ")[0]
    assert set(manual.topics()) <= set(re.findall(r"[a-z-]+", section))


def lowest_commands(parser, path=()):
    """The parser's own commands below all groups, by name."""
    for name, below in parser.commands.items():
        if hasattr(below, "commands"):
            yield from lowest_commands(below, (*path, name))
        elif not below.hidden:
            yield " ".join((*path, name)), below


def test_commands_are_the_programs():
    """Every command is listed with the first line of its help, and every option that is not the daemon's own."""
    text = printed("commands")
    found = list(lowest_commands(build()))
    assert len(found) > 40
    for name, command in found:
        assert row(f"`backupd {name}`", " ".join(command.help.split("\n\n")[0].split())) in text
        options = text.partition(f"\n## backupd {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                shown = not parameter.hidden and option != "--help"
                assert (option in options) == shown, (name, option)


def test_exit_statuses_and_metrics_are_the_programs():
    """Each is printed with what it means."""
    for code, meaning in EXIT_CODES.items():
        assert row(str(code), meaning) in printed("exit-status")
    for metric in METRICS:
        assert f"| `{metric.name}` | " in printed("metrics")
        assert f" | {metric.help} |" in printed("metrics")


def test_alerts_are_the_programs():
    """Under every name that people may meet stands what it means, and what to do."""
    text = printed("alerts")
    for alert in ALERTS:
        below = text.partition(f"\n## {', '.join(alert.names)}\n")[2].partition("\n## ")[0]
        assert alert.means in below
        assert alert.do in below


def test_configuration_keys_are_the_programs():
    """Every key is printed with type, default and a meaning in full sentences, and no other."""
    text = printed("configuration")
    found = list(keys())
    assert len(found) > 120
    for key in found:
        assert re.fullmatch(r"[A-Z0-9].*\.(?: [A-Z].*\.)*", key.meaning), key.path
        assert row(f"`{key.path}`", key.written, f"`{key.default}`", key.meaning) in text, key.path
    listed = re.findall(r"^\| `([A-Za-z_.]+)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted(key.path for key in found)


def test_defaults_are_printed_as_they_are_written():
    """What stands in the table gives, in a file, the default."""
    seen = 0
    for key in keys():
        if key.default not in ("required", "none"):
            written = tomllib.loads(f"value = {key.default}")["value"]
            adapter = TypeAdapter(Annotated[key.field.annotation, key.field])
            assert adapter.validate_python(written) == key.field.default, key.path
            seen += 1
        else:
            assert key.field.is_required() == (key.default == "required"), key.path
    assert seen > 60


def test_a_terminal_gets_it_rendered_and_paged(tmp_path):
    """Headings and tables are drawn, and the pager that the environment names has it; a pipe gets the text."""
    pager = tmp_path / "pager"
    pager.write_text(f"#!/bin/sh\ntee {tmp_path}/paged\n")
    pager.chmod(0o755)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(readme.ROOT), "PAGER": str(pager), "TERM": "xterm"}
    command = f"{sys.executable} -m backupd manual exit-status"

    status, shown, _ = readme.run(command, tmp_path, environment, "")
    assert status == 0, shown
    paged = (tmp_path / "paged").read_text()
    assert "| 7 |" not in paged
    assert re.search(r"7\b.*Something on the store", paged)
    _, _, plain = readme.run(command, tmp_path, environment, "", piped=True)
    assert re.search(r"\| 7 +\| Something on the store", plain)
