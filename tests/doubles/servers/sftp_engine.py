"""An SFTP version 3 server's half, in plain Python over a folder: bytes of a request in, bytes of the answer out.

Written against the protocol, not against our client, and behaving as OpenSSH's does where ours relies on it: RENAME
does not overwrite, and the `fsync@`, `statvfs@`, `limits@` and `posix-rename@` extensions and `copy-data` are there.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

(INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR, REMOVE, MKDIR, RMDIR) = (
    range(1, 16)
)
REALPATH, STAT, RENAME, EXTENDED = 16, 17, 18, 200
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
POSIX_RENAME = b"posix-rename@openssh.com"
COPY_DATA = b"copy-data"
EXTENSIONS = {
    b"fsync@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"limits@openssh.com": b"1",
    POSIX_RENAME: b"1",
    COPY_DATA: b"1",
}
_OPEN_FLAGS = ((0x4, os.O_APPEND), (0x8, os.O_CREAT), (0x10, os.O_TRUNC), (0x20, os.O_EXCL))


class Fields:
    """Takes fields off a request."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def take(self, form: str) -> int:
        (value,) = struct.unpack_from(form, self.body, self.at)
        self.at += struct.calcsize(form)
        return value

    def number(self) -> int:
        return self.take(">I")

    def long(self) -> int:
        return self.take(">Q")

    def string(self) -> bytes:
        length = self.number()
        self.at += length
        return self.body[self.at - length : self.at]


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def status(number: int, code: int) -> bytes:
    return packet(STATUS, struct.pack(">II", number, code) + text(b"words") + text(b""))


def attributes(seen: os.stat_result) -> bytes:
    numbers = (0xF, seen.st_size, seen.st_uid, seen.st_gid, seen.st_mode, int(seen.st_atime), int(seen.st_mtime))
    return struct.pack(">IQIIIII", *(number & 0xFFFFFFFFFFFFFFFF for number in numbers))


class SftpEngine:
    """One client's session over `home`. `extensions` is what it greets with."""

    extensions = EXTENSIONS

    def __init__(self, home: Path) -> None:
        self.home = home
        self.files: dict[bytes, int] = {}
        self.folders: dict[bytes, list[str]] = {}
        self.paths: dict[bytes, Path] = {}
        self.opened = 0

    def greet(self) -> bytes:
        names = b"".join(text(name) + text(version) for name, version in self.extensions.items())
        return packet(VERSION, struct.pack(">I", 3) + names)

    def answer(self, kind: int, body: bytes) -> bytes:
        """The reply to one request; an error of the folder becomes a status as poor as OpenSSH's."""
        fields = Fields(body)
        number = fields.number()
        handler: Callable[[int, Fields], bytes] | None = HANDLERS.get(kind)
        if handler is None:
            return status(number, UNSUPPORTED)
        try:
            return handler(self, number, fields)
        except (FileNotFoundError, NotADirectoryError):
            return status(number, NO_SUCH_FILE)
        except PermissionError:
            return status(number, PERMISSION_DENIED)
        except (OSError, KeyError):
            return status(number, FAILURE)

    def close(self) -> None:
        for file in self.files.values():
            os.close(file)
        self.files.clear()

    def path(self, fields: Fields) -> Path:
        return self.home / fields.string().decode()

    def handle(self, number: int) -> tuple[bytes, bytes]:
        self.opened += 1
        name = struct.pack(">I", self.opened)
        return name, packet(HANDLE, struct.pack(">I", number) + text(name))

    def open(self, number: int, fields: Fields) -> bytes:
        path, wanted = self.path(fields), fields.number()
        flags = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}[wanted & 3]
        for bit, flag in _OPEN_FLAGS:
            flags |= flag if wanted & bit else 0
        permissions = fields.number() if fields.number() & 0x4 else 0o666
        file = os.open(path, flags | os.O_CLOEXEC, permissions)
        name, reply = self.handle(number)
        self.files[name], self.paths[name] = file, path
        return reply

    def close_handle(self, number: int, fields: Fields) -> bytes:
        name = fields.string()
        if name in self.files:
            os.close(self.files.pop(name))
        else:
            del self.folders[name]
        return status(number, OK)

    def read(self, number: int, fields: Fields) -> bytes:
        file, offset, length = self.files[fields.string()], fields.long(), fields.number()
        data = os.pread(file, min(length, 261_120), offset)
        return packet(DATA, struct.pack(">I", number) + text(data)) if data else status(number, EOF)

    def write(self, number: int, fields: Fields) -> bytes:
        file, offset = self.files[fields.string()], fields.long()
        self.store(file, fields.string(), offset)
        return status(number, OK)

    def store(self, file: int, data: bytes, offset: int) -> None:
        os.pwrite(file, data, offset)

    def lstat(self, number: int, fields: Fields) -> bytes:
        return packet(ATTRS, struct.pack(">I", number) + attributes(os.lstat(self.path(fields))))

    def stat(self, number: int, fields: Fields) -> bytes:
        return packet(ATTRS, struct.pack(">I", number) + attributes(self.path(fields).stat()))

    def fstat(self, number: int, fields: Fields) -> bytes:
        return packet(ATTRS, struct.pack(">I", number) + attributes(os.fstat(self.files[fields.string()])))

    def setstat(self, number: int, fields: Fields) -> bytes:
        path = self.path(fields)
        if fields.number() == 0x4:
            path.chmod(fields.number())
        return status(number, OK)

    def opendir(self, number: int, fields: Fields) -> bytes:
        path = self.path(fields)
        names = [entry.name for entry in path.iterdir()]
        name, reply = self.handle(number)
        self.folders[name], self.paths[name] = [".", "..", *names], path
        return reply

    def readdir(self, number: int, fields: Fields) -> bytes:
        name = fields.string()
        now, self.folders[name] = self.folders[name][:100], self.folders[name][100:]
        if not now:
            return status(number, EOF)
        entries = [
            text(entry.encode()) + text(b"-rw for people") + attributes(os.lstat(self.paths[name] / entry))
            for entry in now
        ]
        return packet(NAME, struct.pack(">II", number, len(entries)) + b"".join(entries))

    def remove(self, number: int, fields: Fields) -> bytes:
        self.path(fields).unlink()
        return status(number, OK)

    def mkdir(self, number: int, fields: Fields) -> bytes:
        self.path(fields).mkdir()
        return status(number, OK)

    def rmdir(self, number: int, fields: Fields) -> bytes:
        self.path(fields).rmdir()
        return status(number, OK)

    def realpath(self, number: int, fields: Fields) -> bytes:
        path = str(self.path(fields)).encode()
        return packet(NAME, struct.pack(">II", number, 1) + text(path) + text(path) + struct.pack(">I", 0))

    def rename(self, number: int, fields: Fields) -> bytes:
        old, new = self.path(fields), self.path(fields)
        if stat.S_ISDIR(os.lstat(old).st_mode):
            old.rename(new)
        else:
            os.link(old, new)
            old.unlink()
        return status(number, OK)

    def extended(self, number: int, fields: Fields) -> bytes:
        name = fields.string()
        if name not in self.extensions:
            return status(number, UNSUPPORTED)
        if name == b"fsync@openssh.com":
            os.fsync(self.files[fields.string()])
            return status(number, OK)
        if name == POSIX_RENAME:
            self.path(fields).replace(self.path(fields))
            return status(number, OK)
        if name == COPY_DATA:
            source, offset, length = self.files[fields.string()], fields.long(), fields.long()
            target, at = self.files[fields.string()], fields.long()
            data = os.pread(source, length, offset)
            self.store(target, data, at)
            return status(number, OK if len(data) == length else EOF)
        values = self.limits() if name == b"limits@openssh.com" else self.statvfs(self.path(fields))
        return packet(EXTENDED_REPLY, struct.pack(f">I{len(values)}Q", number, *values))

    def limits(self) -> tuple[int, ...]:
        return (262_144, 261_120, 261_120, 1000)

    def statvfs(self, path: Path) -> tuple[int, ...]:
        seen = os.statvfs(path)
        return (
            *(seen.f_bsize, seen.f_frsize, seen.f_blocks, seen.f_bfree, seen.f_bavail),
            *(seen.f_files, seen.f_ffree, seen.f_favail, 0, seen.f_flag, seen.f_namemax),
        )


HANDLERS = {
    OPEN: SftpEngine.open,
    CLOSE: SftpEngine.close_handle,
    READ: SftpEngine.read,
    WRITE: SftpEngine.write,
    LSTAT: SftpEngine.lstat,
    FSTAT: SftpEngine.fstat,
    SETSTAT: SftpEngine.setstat,
    OPENDIR: SftpEngine.opendir,
    READDIR: SftpEngine.readdir,
    REMOVE: SftpEngine.remove,
    MKDIR: SftpEngine.mkdir,
    RMDIR: SftpEngine.rmdir,
    REALPATH: SftpEngine.realpath,
    STAT: SftpEngine.stat,
    RENAME: SftpEngine.rename,
    EXTENDED: SftpEngine.extended,
}
