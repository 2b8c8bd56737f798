"""The rules of the house that no general tool knows, and that each of them can fail."""

import ast

import pytest
from hypothesis import HealthCheck, settings

from scripts.lib import house


def parsed(path: str, text: str) -> house.Module:
    return house.Module(path, text, ast.parse(text))


@pytest.mark.parametrize("rule", house.RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    """Nothing in the package breaks it; the failure names file, line and rule."""
    assert [str(breach) for breach in rule(list(house.modules()))] == []


def test_one_class_name_in_two_modules_is_reported():
    """The second place is named with the first."""
    found = [parsed("backupd/a.py", "class Place: ..."), parsed("backupd/b.py", "class Place: ...")]

    assert [str(breach) for breach in house.class_names(found)] == [
        "backupd/b.py:1: the class name Place is taken by backupd/a.py"
    ]


@pytest.mark.parametrize("name", ["looking", "row_reading", "telling"])
def test_a_gerund_of_a_general_verb_is_no_name(name):
    """The name of a folder counts as that of a module does."""
    assert [*house.module_names([parsed(f"backupd/model/{name}.py", "")])]
    assert [*house.module_names([parsed(f"backupd/{name}/purge.py", "")])]
    assert not [*house.module_names([parsed("backupd/monitoring/purge.py", "")])]


def test_long_files_and_functions_are_reported():
    """One line more than the most is one too many."""
    body = "def f():\n" + "    x = 1\n" * 60

    assert [*house.sizes([parsed("backupd/a.py", body)])]
    assert not [*house.sizes([parsed("backupd/a.py", body.replace("    x = 1\n", "", 1))])]
    assert [*house.sizes([parsed("backupd/a.py", "x = 1\n" * 451)])]


def test_crowded_deep_and_lonely_folders_are_reported():
    """Twenty files are the most, two levels the deepest, and one module needs no folder."""
    crowd = [parsed(f"backupd/model/m{number}.py", "") for number in range(21)]

    assert [*house.folders(crowd)]
    assert not [*house.folders(crowd[:20])]
    assert [*house.folders([parsed("backupd/a/b/c/d.py", ""), parsed("backupd/a/b/c/e.py", "")])]
    assert [*house.folders([parsed("backupd/model/only.py", "")])]


@pytest.mark.parametrize(
    "text",
    ["And of keys.", "What is built from, and what came of it.", "Their ids.", "Put the keyring anew under its mark."],
)
def test_riddles_are_reported(text):
    """A docstring without a noun of its own, or in words that only this house knows."""
    assert [*house.docstrings([parsed("backupd/a.py", f'def f():\n    """{text}"""')])]
    assert not [*house.docstrings([parsed("backupd/a.py", 'def f():\n    """Replace the keyring under its mark."""')])]


@pytest.mark.parametrize("text", ["the ledger was not told", "the pack was put anew", "gone on with by the next run"])
def test_riddles_in_messages_are_reported(text):
    """What people read at night is in words that they know; what only readers of the code see is another rule's."""
    assert [
        *house.messages([parsed("backupd/a.py", f'def f():\n    """Say it plainly."""\n    return f"{text} {{1}}"')])
    ]
    assert not [
        *house.messages([parsed("backupd/a.py", f'def f():\n    """Say {text}."""\n    return "it was replaced"')])
    ]


def test_every_exception_from_a_tool_s_rule_has_its_reason():
    """In the package, its scripts and its tests."""
    assert [str(breach) for breach in house.exceptions()] == []


@pytest.mark.parametrize(
    ("path", "words", "right"),
    [
        ("backupd/a.py", "noqa: S310", False),
        ("backupd/a.py", "noqa: S310, PTH123", False),
        ("backupd/a.py", "noqa: S310 - its scheme was looked at", True),
        ("backupd/a.py", "type: ignore[arg-type]", False),
        ("backupd/a.py", "type: ignore[arg-type]  # any name will do", True),
        ("backupd/a.py", "type: ignore[arg-type]  \x23 noqa: S310", False),
        ("tests/a.py", "type: ignore[arg-type]  # any name will do", False),
        ("tests/a.py", "noqa: S310  # a test", True),
    ],
)
def test_an_exception_without_reason_is_reported(path, words, right):
    """Two exceptions on one line may share their reason; where mypy does not look, none of its is needed."""
    assert (not [*house.exceptions_of(path, f"a = b()  # {words}\n")]) is right


def test_no_property_depends_on_the_speed_of_the_machine():
    """Hypothesis gives an example 200 ms where nobody says otherwise."""
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check
