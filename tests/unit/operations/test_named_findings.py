"""What findings are about, by name: bounded, without passwords, and never in a text of their own."""

from __future__ import annotations

from collections import Counter

from backupd.model.report import CheckName
from backupd.operations.drill.named_findings import FindingNames, NamedFinding, without_password
from backupd.postgres.schema import compare
from backupd.postgres.schema.compare import ComparedSchema, Difference, changed_lines


def test_a_restored_server_cannot_name_things_forever() -> None:
    """What is beyond a number of one code is counted; codes stand in the order of their checks."""
    names = FindingNames()
    names.add(CheckName.INDEXES, "index-missing", "by_name")
    for number in range(1000):
        names.add(CheckName.EQUALITY, "rows-lost", f"public.t{number}", ["- 2 rows"])

    found = names.listed()

    assert len(found) == 202
    assert [found[0].what, found[200].what, found[201].what] == ["public.t0", "and 800 more", "by_name"]


def test_a_name_is_in_no_text_of_a_finding() -> None:
    """A log or a trace that prints the value shows no name; bytes that are no text can be printed as JSON."""
    names = FindingNames()
    names.add(CheckName.EQUALITY, "rows-lost", "acme \udcff", ["- acme"])

    (found,) = names.listed()

    assert (found.what, found.details) == ("acme \\udcff", ("- acme",))
    assert "acme" not in repr(found)
    assert repr(NamedFinding(CheckName.EQUALITY, "rows-lost", "acme")) == repr(found)


def test_no_password_is_shown() -> None:
    """Neither a role's, with a quote in it, nor a definition that may hold one."""
    assert without_password("ALTER ROLE a WITH LOGIN PASSWORD 'it''s' VALID UNTIL 'x'") == (
        "ALTER ROLE a WITH LOGIN PASSWORD '…' VALID UNTIL 'x'"
    )
    for kind, lines in (("VIEW", ["- b", "+ c"]), ("USER MAPPING", []), ("SUBSCRIPTION", [])):
        name = compare._Named(kind, "public", "v")
        before, after = (ComparedSchema({name: Counter([compare._Stated("me", text)])}) for text in ("a\nb", "a\nc"))
        assert changed_lines(Difference(kind, "changed", "public", "v"), before, after) == lines
