"""Messages between a backup's processes come back as they were sent, and print nothing of what is in them."""

from __future__ import annotations

import io

import pytest

from backupd.rows import protocol

SECRET = "hidden-marker"
KEY = protocol.NewKey(SECRET, (SECRET, SECRET, SECRET), SECRET, SECRET, SECRET.encode())
MESSAGES = [
    KEY,
    protocol.Closing(SECRET, SECRET.encode(), SECRET, SECRET),
    protocol.BytesTask(1, SECRET, SECRET, SECRET.encode()),
    protocol.CommandTask(1, SECRET, SECRET, [SECRET]),
    protocol.Failed(SECRET, SECRET, SECRET),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_prints_its_kind_only(message: object) -> None:
    """Wherever one ends up, in an error or a log: no key, row or name with it."""
    assert SECRET not in f"{message} {message!r} {[message]}"
    assert type(message).__name__ in repr(message)


def test_messages_come_back() -> None:
    """Through a pipe, one after the other."""
    sent: list[protocol.Event] = [protocol.PlacesWanted([KEY]), protocol.SegmentsClosed()]
    pipe = io.BytesIO()
    for one in sent:
        protocol.send(pipe, one)
    pipe.seek(0)
    assert [protocol.receive_event(pipe), protocol.receive_event(pipe), protocol.receive_event(pipe)] == [*sent, None]
