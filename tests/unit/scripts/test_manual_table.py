"""The scripts that measure put their tables where these stand in the manual."""

import importlib

import pytest
from doubles.paths import ROOT

TABLE = ["| a | b |", "|---|---|", "| 1 | 2 |", "| 3 | 4 |"]


@pytest.fixture
def lib(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def test_a_table_takes_the_place_of_the_one_with_its_headings(lib, tmp_path):
    """The text around it, and other tables, stay."""
    page = tmp_path / "page.md"
    page.write_text("before\n\n| b | a |\n|---|---|\n\nwith:\n\n| a | b |\n|---|---|\n| 0 | 0 |\n\nafter\n")
    lib("lib.manual_table").put(TABLE, page)
    assert page.read_text() == "\n".join(
        ["before", "", "| b | a |", "|---|---|", "", "with:", "", *TABLE, "", "after", ""]
    )


@pytest.mark.parametrize("text", ["nothing\n", "| a | b |\n\n| a | b |\n"])
def test_a_page_without_its_place_is_not_changed(lib, tmp_path, text):
    """Nor one that has two."""
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=r"has [02] tables"):
        lib("lib.manual_table").put(TABLE, page)
    assert page.read_text() == text


def test_the_manual_has_the_tables_that_scripts_put_there(lib):
    """The headings are the scripts' own, so that the next run finds its place."""
    lines = (ROOT / "backupd" / "manual" / "design.md").read_text().splitlines()
    sweep, scale = lib("lib.sweep.report"), lib("lib.scale.__main__")
    for headings in (next(sweep.markdown([])), scale.summary([])[0]):
        assert lines.count(headings) == 1


def test_a_dimension_is_summed_up_at_its_largest(lib):
    """Its steepest growth, its most memory, and what it takes beside PostgreSQL's own programs."""
    scale = lib("lib.scale.__main__")
    steps = [
        scale.Step("tables", 10, "backup", 0.5, 9 << 20, 0),
        scale.Step("tables", 1000, "backup", 2.0, 50 << 20, 0, 1.1, 3.0),
        scale.Step("tables", 1000, "restore", 4.0, 70 << 20, 0, 0.9, 1.5),
    ]
    *_, line = scale.summary(steps)
    what = scale.DIMENSIONS["tables"].what
    assert line == f"| {scale.thousands(1000)} {what} | 2.0 |  |  |  | 4.0 |  |  | 1.10 | 3.0 | 1.5 | 70 |"
