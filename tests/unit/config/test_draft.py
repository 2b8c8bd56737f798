"""The first configuration as text: what is read back is what was meant."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backupd.config.draft import complaint, tenancy_lines, toml
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**62), 2**62), st.booleans()))
@example("\x7f\x00")
def test_a_value_is_read_back(value):
    """Whatever characters it has."""
    assert tomllib.loads(f"key = {toml(value)}")["key"] == value


def test_a_tenancy_is_read_back():
    """With its rules, in their order, below the database's section."""
    rules = (TableRule(("public.a",), path=("x", "y")), TableRule(("public.b", "public.c"), shared=True))
    tenancy = Tenancy(TenancyKind.COLUMN, column='tenant "id"', rules=rules)
    text = "\n".join(("[regions.be.databases.app]", *tenancy_lines("regions.be.databases.app", tenancy)))
    assert tomllib.loads(text)["regions"]["be"]["databases"]["app"] == {
        "tenancy": {"kind": "column", "column": 'tenant "id"'},
        "tables": [{"match": ["public.a"], "path": ["x", "y"]}, {"match": ["public.b", "public.c"], "shared": True}],
    }


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [("region", "be", ""), ("region", "Be", "first a letter"), ("folder", "srv", "absolute"), ("host", "a b", "host")],
)
def test_an_answer_is_judged_as_the_configuration_judges_it(kind, text, words):
    """By the same types, in the same words."""
    found = complaint(kind, text)
    assert words in found
    assert bool(words) == bool(found)
