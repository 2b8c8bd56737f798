"""A configuration may be several files: they are one, each fault names its file and line, and nothing is set twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.samples.example_config import EXAMPLE

from backupd.config.document import read_document
from backupd.config.faults import ConfigFaultsError
from backupd.config.load import advice, load, parse, parse_document
from backupd.errors import ConfigError

REGIONS = EXAMPLE.index("[regions.be]")
MAIN, REST = EXAMPLE[:REGIONS], EXAMPLE[REGIONS:]
INCLUDE = 'include = ["conf.d/*.toml"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "backupd.toml").write_text(INCLUDE + MAIN)
    (tmp_path / "conf.d" / "50-regions.toml").write_text(REST)
    return tmp_path


def faults(folder: Path) -> list[tuple[str, int | None, str, str]]:
    with pytest.raises(ConfigFaultsError) as caught:
        load(folder / "backupd.toml")
    return [(fault.file, fault.line, fault.key, fault.message) for fault in caught.value.faults]


def test_files_are_one_configuration(folder: Path) -> None:
    """Tables that stand in two files are one table."""
    whole = parse(EXAMPLE, "x")
    (folder / "conf.d" / "60-node.toml").write_text('[stores.zurich]\nkeeper_user = "keeper"\n')
    found = load(folder / "backupd.toml")
    assert found.regions["be"].databases == whole.regions["be"].databases
    assert found.node == whole.node
    assert found.stores["zurich"].keeper_user == "keeper"
    assert found.stores["zurich"].host == whole.stores["zurich"].host


def test_a_fault_names_its_file_and_line(folder: Path) -> None:
    """So does advice; what stands in the main file has no name before its line."""
    file = folder / "conf.d" / "60-node.toml"
    file.write_text('\n[regions.be]\ngenerations = "14d"\n')
    assert faults(folder) == [("conf.d/60-node.toml", 3, "regions.be.generations", "unknown key")]
    file.write_text("[daemon\n")
    ((name, line, _, message),) = faults(folder)
    assert (name, line, message.startswith("is not TOML")) == ("conf.d/60-node.toml", 1, True)
    (folder / "backupd.toml").write_text(INCLUDE + "nodes = 1\n" + MAIN)
    file.write_text("")
    assert faults(folder) == [("", 2, "nodes", "unknown key")]
    file.write_text('[regions.be.objectives]\nrto = "4h"\n')
    (folder / "backupd.toml").write_text(INCLUDE + MAIN)
    (folder / "conf.d" / "50-regions.toml").write_text(
        "\n".join(
            line for line in REST.splitlines() if not line.startswith(("approval", "rpo", "rto", "drill_every"))
        ).replace("[regions.be.objectives]", "")
    )
    document = read_document(folder / "backupd.toml")
    given = {fault.key: fault.file for fault in advice(parse_document(document), document)}
    assert given["regions.be.objectives"] == "conf.d/60-node.toml"


def test_nothing_is_set_twice(folder: Path) -> None:
    """Which of two values holds should not depend on the names of files; both places are named."""
    (folder / "conf.d" / "60-node.toml").write_text('[node]\nname = "other"\n')
    line = MAIN[: MAIN.index("name = ")].count("\n") + 2
    assert faults(folder) == [
        ("conf.d/60-node.toml", 2, "node.name", f"is set in backupd.toml, line {line}, too"),
    ]


def test_files_are_read_in_the_order_of_their_names_and_only_those_that_match(folder: Path) -> None:
    """A hidden file and another ending are not read."""
    for name in (".hidden.toml", "60-node.toml.bak", "60-node.txt"):
        (folder / "conf.d" / name).write_text("nonsense = [")
    (folder / "conf.d" / "10-first.toml").write_text("")
    document = read_document(folder / "backupd.toml")
    assert [part.name for part in document.parts] == ["backupd.toml", "conf.d/10-first.toml", "conf.d/50-regions.toml"]


def test_a_named_file_that_is_missing_is_a_fault(folder: Path) -> None:
    """A pattern may match nothing; a name must be there."""
    text = (folder / "backupd.toml").read_text()
    (folder / "backupd.toml").write_text(text.replace('"conf.d/*.toml"', '"conf.d/*.toml", "more.d/*.toml"'))
    load(folder / "backupd.toml")
    (folder / "backupd.toml").write_text(text.replace('"conf.d/*.toml"', '"conf.d/*.toml", "more.toml"'))
    with pytest.raises(ConfigError, match=r"more\.toml"):
        load(folder / "backupd.toml")


def test_only_the_main_file_includes(folder: Path) -> None:
    """Nobody follows a chain of files to find out what holds."""
    (folder / "conf.d" / "60-node.toml").write_text(INCLUDE)
    assert faults(folder) == [
        ("conf.d/60-node.toml", 1, "include", "stands in an included file; only the main file includes others"),
    ]


def test_a_bundle_is_the_same_configuration_elsewhere(folder: Path, tmp_path: Path) -> None:
    """A daemon's jobs get all files in one descriptor, whatever happens to the files; faults name the same places."""
    bundle = tmp_path / "elsewhere"
    bundle.write_text(read_document(folder / "backupd.toml").bundle())
    expected = load(folder / "backupd.toml")
    for file in (folder / "conf.d").iterdir():
        file.unlink()
    assert load(bundle) == expected
    alone = folder / "alone.toml"
    alone.write_text(EXAMPLE)
    assert read_document(alone).bundle() == EXAMPLE
