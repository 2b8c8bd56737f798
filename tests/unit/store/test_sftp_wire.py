"""SFTP as bytes: what we encode decodes elsewhere, and nothing hostile decodes into anything but an error."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.store.sftp import wire
from backupd.store.sftp.wire import Attributes, Data, Extended, Framer, Handle, NameReply, ProtocolError, Status

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
numbers = st.integers(0, 2**32 - 1)
longs = st.integers(0, 2**64 - 1)


def text(value):
    return struct.pack(">I", len(value)) + value


def attributes(size=None, mode=None, modified=None, owner=None, extended=()):
    flags = (
        (0x1 if size is not None else 0)
        | (0x2 if owner is not None else 0)
        | (0x4 if mode is not None else 0)
        | (0x8 if modified is not None else 0)
        | (0x80000000 if extended else 0)
    )
    body = struct.pack(">I", flags)
    body += struct.pack(">Q", size) if size is not None else b""
    body += struct.pack(">II", *owner) if owner is not None else b""
    body += struct.pack(">I", mode) if mode is not None else b""
    body += struct.pack(">II", 7, modified) if modified is not None else b""
    if extended:
        body += struct.pack(">I", len(extended)) + b"".join(text(a) + text(b) for a, b in extended)
    return body


@given(numbers, numbers, st.binary(max_size=40))
def test_status(number, code, words):
    """A status is its code; the server's words are dropped, whether there are any or not."""
    for rest in (b"", text(words) + text(b"en"), text(words)):
        assert wire.decode_reply(101, struct.pack(">II", number, code) + rest) == (number, Status(code))


@given(numbers, st.binary(min_size=1, max_size=256))
def test_handle(number, value):
    """A handle is opaque bytes."""
    assert wire.decode_reply(102, struct.pack(">I", number) + text(value)) == (number, Handle(value))


@pytest.mark.parametrize("value", [b"", b"x" * 257])
def test_handle_of_wrong_size(value):
    """The protocol allows 256 bytes, and none is no handle."""
    with pytest.raises(ProtocolError):
        wire.decode_reply(102, struct.pack(">I", 1) + text(value))


@given(numbers, st.binary(max_size=1000))
def test_data(number, value):
    """Bytes read come out as they are."""
    assert wire.decode_reply(103, struct.pack(">I", number) + text(value)) == (number, Data(value))


optional = {"size": st.none() | longs, "mode": st.none() | numbers, "modified": st.none() | numbers}
shown = st.builds(
    lambda size, mode, modified, owner, extended: (
        Attributes(size, mode, modified),
        attributes(size, mode, modified, owner, extended),
    ),
    **optional,
    owner=st.none() | st.tuples(numbers, numbers),
    extended=st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=2),
)


@given(numbers, shown)
def test_attributes(number, seen):
    """Every mixture of fields is understood, also those we do not use."""
    expected, body = seen
    assert wire.decode_reply(105, struct.pack(">I", number) + body) == (number, expected)


@given(numbers, st.lists(st.tuples(names, st.binary(max_size=30), shown), max_size=5))
def test_names(number, entries):
    """A folder's entries come with their attributes; the line for people is dropped."""
    body = struct.pack(">II", number, len(entries))
    body += b"".join(text(name.encode()) + text(line) + seen[1] for name, line, seen in entries)
    expected = NameReply(tuple((name, seen[0]) for name, _, seen in entries))
    assert wire.decode_reply(104, body) == (number, expected)


@given(st.binary(min_size=1, max_size=20))
def test_names_in_any_encoding_survive(raw):
    """A name that is not UTF-8 comes back as the bytes it was."""
    body = struct.pack(">II", 1, 1) + text(raw) + text(b"") + struct.pack(">I", 0)
    _, reply = wire.decode_reply(104, body)
    path = reply.entries[0][0]
    assert wire.remove(path).payload == text(raw)


@given(st.integers(0, 255), st.binary(max_size=200))
def test_no_bytes_do_worse_than_an_error(kind, body):
    """Whatever arrives decodes or is refused as what it is: nothing else is ever raised."""
    for decode in (wire.decode_reply, wire.decode_version):
        with contextlib.suppress(ProtocolError):
            decode(kind, body)


def test_a_server_that_breaks_the_protocol_is_not_tried_again():
    """It would do it again."""
    assert not ProtocolError("anything").retryable


@given(shown, st.data())
def test_every_cut_is_noticed(seen, data):
    """A reply that ends early is refused wherever it ends."""
    body = struct.pack(">II", 1, 1) + text(b"name") + text(b"line") + seen[1]
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(ProtocolError):
        wire.decode_reply(104, body[:cut])


@pytest.mark.parametrize("kind", [102, 103, 104, 105])
def test_nothing_may_be_left_over(kind):
    """A reply with bytes behind its last field is refused."""
    bodies = {102: text(b"h"), 103: text(b"d"), 104: struct.pack(">I", 0), 105: struct.pack(">I", 0)}
    with pytest.raises(ProtocolError):
        wire.decode_reply(kind, struct.pack(">I", 1) + bodies[kind] + b"x")


def test_names_may_not_be_endless():
    """A name longer than any path is refused, also within a legal packet."""
    body = struct.pack(">II", 1, 1) + text(b"x" * 5000) + text(b"") + struct.pack(">I", 0)
    with pytest.raises(ProtocolError):
        wire.decode_reply(104, body)


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=60)), max_size=8), st.data())
def test_framing_does_not_depend_on_pieces(packets, data):
    """However the stream is cut into pieces, the same packets come out."""
    stream = b"".join(struct.pack(">IB", len(body) + 1, kind) + body for kind, body in packets)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    framer, found = Framer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += framer.feed(stream[start:end])
    assert found == packets


@pytest.mark.parametrize("length", [0, wire.LONGEST_PACKET + 1, 2**31, 2**32 - 1])
def test_impossible_lengths_are_refused_unread(length):
    """A packet too long is refused by its head alone, so nobody waits for, or keeps, its gigabytes."""
    with pytest.raises(ProtocolError):
        [*Framer().feed(struct.pack(">IB", length, 101))]


def test_version():
    """Extensions are named in the greeting; any version but 3 is refused."""
    body = struct.pack(">I", 3) + text(b"fsync@openssh.com") + text(b"1")
    assert wire.decode_version(2, body) == {"fsync@openssh.com": b"1"}
    for bad in (struct.pack(">I", 6), struct.pack(">I", 2), b""):
        with pytest.raises(ProtocolError):
            wire.decode_version(2, bad)


@given(numbers, st.lists(longs, min_size=11, max_size=11))
def test_extended_replies(number, values):
    """Limits and space are read from their places."""
    body = struct.pack(">I11Q", number, *values)
    _, reply = wire.decode_reply(201, body)
    assert isinstance(reply, Extended)
    assert wire.decode_statvfs(reply.value) == (values[4] * values[1], values[2] * values[1])
    assert wire.decode_limits(reply.value) == (values[1], values[2])


# What OpenSSH's server must understand, written out byte by byte.
@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (wire.open_file("a", wire.Mode.READ), b"\3" + b"\0\0\0\7" + text(b"a") + b"\0\0\0\1" + b"\0\0\0\0"),
        (
            wire.open_file("a", wire.Mode.WRITE | wire.Mode.CREATE | wire.Mode.EXCLUSIVE, 0o400),
            b"\3" + b"\0\0\0\7" + text(b"a") + b"\0\0\0\x2a" + b"\0\0\0\4" + b"\0\0\1\0",
        ),
        (wire.close(Handle(b"h")), b"\4" + b"\0\0\0\7" + text(b"h")),
        (wire.read(Handle(b"h"), 5, 6), b"\5" + b"\0\0\0\7" + text(b"h") + bytes(7) + b"\5" + b"\0\0\0\6"),
        (wire.write(Handle(b"h"), 5, b"data"), b"\6" + b"\0\0\0\7" + text(b"h") + bytes(7) + b"\5" + text(b"data")),
        (wire.rename("a", "b"), b"\x12" + b"\0\0\0\7" + text(b"a") + text(b"b")),
        (wire.fsync(Handle(b"h")), b"\xc8" + b"\0\0\0\7" + text(b"fsync@openssh.com") + text(b"h")),
        (wire.mkdir("a"), b"\x0e" + b"\0\0\0\7" + text(b"a") + b"\0\0\0\4" + b"\0\0\1\xc0"),
    ],
)
def test_requests_are_as_the_protocol_has_them(request_, expected):
    """Requests are checked against the specification, not against our own decoder."""
    assert request_.encode(7) == struct.pack(">I", len(expected)) + expected


@pytest.mark.parametrize(
    ("made", "encoded"),
    [
        (wire.readdir(Handle(b"h")), (12, text(b"h"))),
        (wire.remove("a"), (13, text(b"a"))),
        (wire.mkdir("a"), (14, text(b"a") + b"\x00\x00\x00\x04\x00\x00\x01\xc0")),
        (wire.rmdir("a"), (15, text(b"a"))),
        (wire.realpath("."), (16, text(b"."))),
        (wire.rename("a", "b"), (18, text(b"a") + text(b"b"))),
        (wire.exchange("a", "b"), (200, text(b"posix-rename@openssh.com") + text(b"a") + text(b"b"))),
        (
            wire.copy(Handle(b"h"), 1, 2, Handle(b"i"), 3),
            (200, text(b"copy-data") + text(b"h") + struct.pack(">QQ", 1, 2) + text(b"i") + struct.pack(">Q", 3)),
        ),
    ],
    ids=lambda one: one.ask.name if isinstance(one, wire.SftpRequest) else "",
)
def test_requests_are_those_of_the_protocol(made, encoded):
    """As version 3 of it numbers them, and as OpenSSH names its extensions."""
    kind, payload = encoded
    assert made.encode(7) == struct.pack(">IBI", 5 + len(payload), kind, 7) + payload
