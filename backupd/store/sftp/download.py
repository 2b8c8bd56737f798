"""Reading from an SFTP store: ranges of objects and whole trees of names, with many requests in flight.

`backupd manual trust`, row *names, sizes and times of objects*, says who can write this, and what is checked.
"""

from __future__ import annotations

import io
import stat as modes
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from backupd.errors import StoreError
from backupd.model.ids import ObjectName
from backupd.store.base import ObjectInfo
from backupd.store.sftp import wire
from backupd.store.sftp.channel import Flight
from backupd.store.sftp.session import Session, handle_of, require_granted
from backupd.store.sftp.wire import Attributes, Code, Data, Handle, NameReply, Reply, Status

LARGEST = 1 << 30
"""Bytes that one `get` returns at most; a longer object is not believed."""
_FOLDERS_AT_ONCE = 64
_READDIRS_FIRST = 2
"""Requests sent at first for each folder: most folders, a segment's, need one answer and its end."""
_READDIRS_AT_ONCE = 3
"""Requests sent together afterwards: OpenSSH returns about a hundred names each, and asking ahead saves round trips."""
_WIDEST = 1_000_000
"""Names that the folders read at a time may have; they are held in memory until all of these are read."""
_MOST = 4_000_000
"""Names that one listing may have: the caller may hold all of them. Our own objects are far fewer."""
_DEEPEST = 32
"""Levels that a listing descends at most; our own layout has five."""
_LONG = 256
"""Bytes of a name that count as one name more: a server may make names up that are as long as paths."""


def fetch(session: Session, path: str, offset: int, length: int | None, name: str) -> bytes:
    """Return a range of an object's bytes; everything from `offset` on when `length` is None.

    Raises ObjectMissingError, StoreError when it is not a plain file, StoreGoneError.
    """
    seen, opened = session.channel.ask(wire.lstat(path), wire.open_file(path, wire.Mode.READ))
    require_granted(seen, name)
    handle = handle_of(opened, name)
    left: Handle | None = handle
    try:
        if not isinstance(seen, Attributes) or not is_file(seen):
            raise StoreError(f"{name!r} is not a plain object on the store")
        there = max(0, (seen.size or 0) - offset)
        wanted = there if length is None else min(length, there)
        if 0 < wanted <= session.channel.read_size:
            # Most objects of many tenants: two messages instead of three.
            read, _ = session.channel.ask(wire.read(handle, offset, wanted), wire.close(handle))
            left = None
            piece = _data(read)
            if piece is not None and len(piece) == wanted:
                return piece
            (opened,) = session.channel.ask(wire.open_file(path, wire.Mode.READ))
            left = handle = handle_of(opened, name)
        return read_range(session, handle, offset, wanted, name)
    finally:
        # The result of closing a file that was only read does not matter, so nobody waits for it.
        if left is not None:
            Flight(session.channel, lambda _place, _reply: None).ask(wire.close(left))


def read_range(session: Session, handle: Handle, offset: int, length: int, name: str) -> bytes:
    """Return bytes of an open file, fewer where it ends.

    Raises StoreError for more than `LARGEST` bytes, and the errors of `require_granted`.
    """
    if length > LARGEST:
        raise StoreError(f"{name!r} claims {length} bytes, more than is read at once")
    step = session.channel.read_size
    got = _Range(length, step)
    flight = Flight(session.channel, got.accept)
    for at in range(0, length, step):
        flight.ask(wire.read(handle, offset + at, min(step, length - at)))
    flight.wait()
    for reply in got.refusals:
        require_granted(reply, name)
    # A server may give less than asked for, and an honest one only at the end; ask one by one from there.
    while (at := got.complete) < length:
        (reply,) = session.channel.ask(wire.read(handle, offset + at, min(step, length - at)))
        piece = _data(reply)
        if piece is None:
            require_granted(reply, name)
        if not piece:
            break
        got.append(piece)
    return got.value()


class _Range:
    """A range that is being read: pieces are written at their places, so that it is in memory only once."""

    def __init__(self, length: int, step: int) -> None:
        self._step = step
        self._buffer = io.BytesIO()
        self.complete = length
        """Bytes from the start that are there without a gap, once every answer has arrived."""
        self.refusals: list[Reply] = []

    def accept(self, place: int, reply: Reply) -> None:
        piece = _data(reply)
        if piece is None:
            self.refusals.append(reply)
        elif len(piece) < self._step:
            self.complete = min(self.complete, place * self._step + len(piece))
        self._buffer.seek(place * self._step)
        self._buffer.write(piece or b"")

    def append(self, piece: bytes) -> None:
        self._buffer.seek(self.complete)
        self._buffer.write(piece)
        self.complete += len(piece)

    def value(self) -> bytes:
        self._buffer.truncate(self.complete)
        return self._buffer.getvalue()


def _data(reply: Reply) -> bytes | None:
    """Return the bytes of a read, none at the end of the file; None for a refusal."""
    if isinstance(reply, Data):
        return reply.value
    return b"" if isinstance(reply, Status) and reply.code == Code.EOF else None


def is_file(seen: Attributes) -> bool:
    return seen.mode is not None and modes.S_ISREG(seen.mode)


def is_folder(seen: Attributes) -> bool:
    return seen.mode is not None and modes.S_ISDIR(seen.mode)


def described(name: str, seen: Attributes) -> ObjectInfo:
    modified = datetime.fromtimestamp(seen.modified or 0, UTC)
    return ObjectInfo(name=ObjectName(name), size=seen.size or 0, modified=modified)


def walk(
    session: Session, root: str, prefix: str, vanished: Callable[[str], None] = lambda _folder: None
) -> Iterator[ObjectInfo]:
    """Yield every plain file below `prefix`, named from `root` on; many folders are read at a time, deepest first.

    `vanished` is called with each folder that is missing, whether it is the first or one that was listed. Raises
    StoreError where there is no end of names.
    """
    waiting, seen_names = [prefix], 0
    while waiting:
        now, waiting = waiting[-_FOLDERS_AT_ONCE:], waiting[:-_FOLDERS_AT_ONCE]
        found = read_folders(session, ["/".join(part for part in (root, folder) if part) or "." for folder in now])
        for folder, entries in zip(now, found, strict=True):
            if entries is None:
                vanished(folder)
            seen_names += sum(_count(folder, entry) for entry, _ in entries or ())
            if seen_names > _MOST:
                raise _endless(prefix, _MOST)
            for entry, seen in entries or ():
                name = f"{folder}/{entry}" if folder else entry
                if is_folder(seen) and name.count("/") < _DEEPEST:
                    waiting.append(name)
                elif is_file(seen):
                    yield described(name, seen)


def read_folders(session: Session, paths: list[str]) -> list[list[tuple[str, Attributes]] | None]:
    """Return the entries of several folders, in the order of `paths`; None for a missing folder."""
    opened = session.channel.ask(*(wire.opendir(path) for path in paths))
    handles: dict[int, Handle] = {}
    found: list[list[tuple[str, Attributes]]] = [[] for _ in paths]
    for place, reply in enumerate(opened):
        if not (isinstance(reply, Status) and reply.code == Code.NO_SUCH_FILE):
            handles[place] = handle_of(reply, paths[place])
    try:
        _read_open_folders(session, dict(handles), found, paths)
    finally:
        Flight(session.channel, lambda _place, _reply: None).ask(*(wire.close(handle) for handle in handles.values()))
    return [entries if place in handles else None for place, entries in enumerate(found)]


def _read_open_folders(
    session: Session, unfinished: dict[int, Handle], found: list[list[tuple[str, Attributes]]], paths: list[str]
) -> None:
    ahead, held = _READDIRS_FIRST, 0
    while unfinished:
        places = [place for place in unfinished for _ in range(ahead)]
        ahead = _READDIRS_AT_ONCE
        replies = session.channel.ask(*(wire.readdir(unfinished[place]) for place in places))
        for place, reply in zip(places, replies, strict=True):
            if isinstance(reply, NameReply):
                if not reply.entries:
                    raise wire.ProtocolError("a folder without end")
                found[place] += [entry for entry in reply.entries if _real(entry[0])]
                held += sum(_count("", name) for name, _ in reply.entries)
                if held > _WIDEST:
                    raise _endless(paths[place], _WIDEST)
            else:
                if not (isinstance(reply, Status) and reply.code == Code.EOF):
                    require_granted(reply, paths[place])
                unfinished.pop(place, None)


def _count(folder: str, entry: str) -> int:
    return 1 + (len(folder) + len(entry)) // _LONG


def _endless(folder: str, most: int) -> StoreError:
    return StoreError(
        f"the store lists more than {most} names below {folder or '.'!r}, and has no end of them",
        hint="Look at that folder: it is not ours, or the server makes names up. Do not keep backups on such a server.",
    )


def _real(name: str) -> bool:
    if not name or "/" in name or "\x00" in name:
        raise wire.ProtocolError("a name no file can have")
    return name not in {".", ".."}
