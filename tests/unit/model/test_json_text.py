"""Faults in JSON are reported without quoting it."""

from __future__ import annotations

import msgspec
import pytest

from backupd.model.ledger import LedgerEntry
from backupd.model.text import UnreadableError, counted, from_json
from backupd.planning.incarnations import State


class _Tagged(msgspec.Struct, tag_field="entry", tag="known"):
    number: int


class _Other(msgspec.Struct, tag_field="entry", tag="other"):
    pass


@pytest.mark.parametrize(
    ("text", "shape", "said"),
    [
        (b'{"entry":"marker - at $","number":1}', _Tagged | _Other, "Invalid value - at `$.entry`"),
        (b'{"entry":"marker","number":1}', _Tagged, "Invalid value - at `$.entry`"),
        (b'"marker"', State, "Invalid enum value"),
        (b'{"entry":"known","number":"marker"}', _Tagged, "Expected `int`, got `str` - at `$.number`"),
        (b'{"kind":"ledger"}', LedgerEntry, "Object missing required field `repository`"),
        (b"marker", dict, "not readable as JSON"),
    ],
)
def test_no_value_is_quoted(text: bytes, shape: type, said: str) -> None:
    """Field names and types only, and nothing of it in what the error came from."""
    with pytest.raises(UnreadableError) as caught:
        from_json(text, shape)
    assert str(caught.value) == said
    cause = caught.value.__cause__
    assert "marker" not in f"{caught.value} {cause if isinstance(cause, msgspec.ValidationError) else ''}"


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (2, "trusted signer", "2 trusted signers"),
        (1, "entry", "1 entry"),
        (3, "entry", "3 entries"),
        (3, "witness", "3 witnesses"),
        (0, "foreign key", "0 foreign keys"),
    ],
)
def test_numbers_stand_with_their_noun(number: int, noun: str, text: str) -> None:
    """One thing is no plural, and none is."""
    assert counted(number, noun) == text
