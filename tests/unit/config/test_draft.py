"""The first configuration as text: what is read back is what was meant."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backupd.config.draft import complaint, toml


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**62), 2**62), st.booleans()))
@example("\x7f\x00")
def test_a_value_is_read_back(value):
    """Whatever characters it has."""
    assert tomllib.loads(f"key = {toml(value)}")["key"] == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [("region", "be", ""), ("region", "Be", "first a letter"), ("folder", "srv", "absolute"), ("host", "a b", "host")],
)
def test_an_answer_is_judged_as_the_configuration_judges_it(kind, text, words):
    """By the same types, in the same words."""
    found = complaint(kind, text)
    assert words in found
    assert bool(words) == bool(found)
