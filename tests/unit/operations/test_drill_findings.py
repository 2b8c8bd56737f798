"""Codes that stand in reports: each has a sentence, and each has been seen in a drill that found it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from doubles.paths import ROOT, TESTS
from doubles.samples.reports import BE, REPOSITORY, START
from fix_regions import Events

from backupd import errors
from backupd.clock import SystemClock
from backupd.model.documents import RepositoryInfo
from backupd.model.report import Check, CheckName, Objectives
from backupd.model.text import stamp
from backupd.operations.drill import DrillEnvironment, DrillPlace, DrillRequest, drill, run
from backupd.operations.drill.checks import policy, structure
from backupd.operations.drill.named_findings import FindingNames
from backupd.operations.drill.types import checks_reported
from backupd.pages import render_report
from backupd.pages.findings import FINDINGS, sentence

DRILL = ROOT / "backupd" / "operations" / "drill"
DRILL_TESTS = TESTS / "integration" / "drill"
HOWS = ("missing", "added", "changed")
"""What `compare` says of two schemas."""
SAYING = {"add": 0, "note": 0, "one": 0, "each": 0, "skipped": 1, "undecided": 1, "CheckFinding": 0, "every_check": 1}
"""Functions that put a code into a report, and which argument it is."""


def texts(node: ast.expr) -> Iterator[str]:
    """Every text an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "\0" for part in node.values]
        yield from _filled("".join(map(str, parts)))


def _filled(text: str) -> Iterator[str]:
    if text == "\0-\0":
        yield from (f"{what}-{how}" for what in ("schema", "constraint", "index", "extension") for how in HOWS)
    elif text == "\0-missed":
        yield from ("rpo-missed", "rto-missed")
    else:
        assert re.fullmatch("\0-(differs|returns-no-number)", text), text


def said() -> set[str]:
    """Every code that stands in the program's text, and those made of errors' names."""
    found = set()
    for path in DRILL.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                place = SAYING.get(name)
                if place is not None and len(node.args) > place:
                    found |= set(texts(node.args[place]))
    found |= {"rows-lost", "rows-added", "rows-changed"}  # `judge` returns them
    return {code for code in found if re.fullmatch(r"[a-z-]+", code)}


def families() -> set[str]:
    """Every error a drill may stop for."""
    every = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.BackupdError)]
    return {kind.__name__.removesuffix("Error").lower() for kind in every}


def test_every_code_has_its_sentence() -> None:
    """Whoever adds one says what it means, and no sentence is about nothing."""
    assert said() | families() == FINDINGS.keys()
    for code, meaning in FINDINGS.items():
        assert re.fullmatch(r"[a-z0-9-]{1,63}", code)
        assert sentence(code) == meaning
        assert "-" not in meaning.replace("large-object", "")


def test_an_assertions_code_is_a_sentence_too() -> None:
    """By the name the operator gave it; a code of a later program stays one."""
    assert sentence("has-tenants-differs") == 'the assertion "has-tenants" returns another number than expected'
    assert sentence("has-tenants-returns-no-number") == 'the assertion "has-tenants" returns no number'
    assert sentence("of-tomorrow") == "of-tomorrow"


def shown() -> set[str]:
    """Every text in the tests of drills, but for their docstrings."""
    found = set()
    for path in DRILL_TESTS.glob("test_drill*.py"):
        tree = ast.parse(path.read_text())
        docstrings = {
            ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
        }
        found |= {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        } - docstrings
    return found


@pytest.mark.parametrize("code", sorted(FINDINGS.keys() - families()))
def test_every_code_has_been_seen(code: str) -> None:
    """A check nobody has seen red may be one that cannot be."""
    assert code in shown(), f"no test of a drill shows {code}"


FAILING = {"damage", "objectmissing"}
"""Errors that are a verdict about the backup wherever they come."""


class Failing:
    """A repository of which nothing can be read but what it is."""

    def __init__(self, error: errors.BackupdError) -> None:
        self._error = error

    def info(self) -> RepositoryInfo:
        return RepositoryInfo(repository=REPOSITORY, region=BE, created=stamp(START), signers=[], keepers=[])

    def __getattr__(self, _: str) -> object:
        raise self._error


@pytest.mark.parametrize("kind", sorted(families()))
def test_an_error_that_stops_a_drill_is_in_its_report(kind: str, tmp_path: Path) -> None:
    """By its family's code, with the verdict that follows, and a sentence."""
    (error,) = (
        one for one in vars(errors).values() if getattr(one, "__name__", "").removesuffix("Error").lower() == kind
    )
    place = DrillPlace(tmp_path / "drills", (), None, 1 << 30, timedelta(1), timedelta(1))
    world = DrillEnvironment(
        identity=b"",
        place=place,
        clock=SystemClock(),
        trace=Events(),
        random=os.urandom,
        machine="test",
        store="disk",
        tenancies={},
        objectives=Objectives(),
    )
    report = drill(DrillRequest(), Failing(error("marker")), world).report
    assert report.verdict == ("fail" if kind in FAILING else "error")
    assert [finding.code for check in report.checks for finding in check.findings if check.verdict != "skip"] == [kind]
    assert sentence(kind) in render_report(report, "ab" * 32)
    assert "marker" not in str(report)


def test_a_check_whose_turn_it_was_not_is_not_called_unreached() -> None:
    """A drill that passed did not end before the damage of another drill; what it did not get to, it ended before."""
    made = [Check.of(CheckName.RECORDS, "pass", 1)]
    told = {one.name: [found.code for found in one.findings] for one in checks_reported(made, damage=False)}
    assert told[CheckName.RECORDS] == []
    assert told[CheckName.DAMAGE] == ["not-asked"]
    assert told[CheckName.EQUALITY] == ["not-reached"]
    damaging = [Check.of(CheckName.DAMAGE, "pass", 2)]
    told = {one.name: [found.code for found in one.findings] for one in checks_reported(damaging, damage=True)}
    assert (told[CheckName.DAMAGE], told[CheckName.EQUALITY]) == ([], ["not-asked"])


@pytest.mark.parametrize(
    ("member", "found"), [("of-b", ["rows-fell-by-half"]), ("of-a", []), (None, ["rows-fell-by-half"])]
)
def test_a_database_is_compared_with_itself(member: str | None, found: list[str]) -> None:
    """With one database for each tenant, a small one of the label is no large one whose rows are gone."""
    chosen = SimpleNamespace(database="app", exported=stamp(START), tenants=None, snapshot="large")
    large = SimpleNamespace(selection=chosen, sizes=SimpleNamespace(rows=1000), verdict="pass")
    record = SimpleNamespace(database="app", exported=stamp(START + timedelta(1)), member=member)
    alike = {"small", "large"} if member == "of-b" else {"small"}
    scene = SimpleNamespace(
        subject=SimpleNamespace(record=record, tenant=None, alike=alike), environment=SimpleNamespace(past=[large])
    )

    assert [one.code for one in policy.check_comparison(scene, 10).findings] == (found or ["no-earlier-drill"])


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.SourceError("pre-data failed"), "fail"),
        (errors.ExtensionRefusedError("pre-data failed at CREATE EXTENSION x"), "error"),
        (errors.SourceBusyError("busy"), "error"),
    ],
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_what_the_drills_server_lacks_is_no_failure_of_the_backup(error: errors.BackupdError, verdict: str) -> None:
    """Nor a pass: there is no verdict, and the message names what it lacks."""
    made = SimpleNamespace(loading=True, checks={}, error=None)
    run._Drill.stopped(SimpleNamespace(_made=made, _request=SimpleNamespace(damage=False)), error)
    assert made.checks[CheckName.EQUALITY].verdict == verdict
    assert made.error is error


GLOBALS = """CREATE ROLE admin;
ALTER ROLE admin WITH SUPERUSER INHERIT LOGIN;
CREATE ROLE staff;
GRANT staff TO anna WITH INHERIT TRUE GRANTED BY {};
GRANT staff TO bert WITH INHERIT TRUE GRANTED BY anna;
"""


@pytest.mark.parametrize(("here", "found"), [("postgres", []), ("anna", ["role-differs", "role-added"])])
def test_the_superuser_who_made_the_source_grants_nothing_here(here: str, found: list[str]) -> None:
    """A server in a container has another name for it; nobody but the drill's own can grant as it did. Others can."""
    restored = SimpleNamespace(
        contents=SimpleNamespace(file=lambda *_: [GLOBALS.format("admin").encode()]), plan=None, roles={"postgres"}
    )
    scene = SimpleNamespace(restored=restored, names=FindingNames())

    made = structure.check_globals(scene, SimpleNamespace(globals=[GLOBALS.format(here)]))

    assert [one.code for one in made.findings] == found
