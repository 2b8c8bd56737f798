"""One psql per worker: it gives COPY's output in large blocks, far cheaper than reading it row by row."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

from backupd.errors import SourceBusyError, SourceError, SourceGoneError
from backupd.postgres.settings import ALLOW_HASH_JOIN, FORBID_HASH_JOIN, read_back
from backupd.postgres.source.busy import busy_table

BLOCK = 64 << 10
"""Bytes read at once. Rows cut from larger blocks fall out of the processor's cache before they are routed (a third
slower at 1 MiB, measured)."""
PIPE = 1 << 20
"""Bytes of the pipe's capacity where the kernel allows it, so that the server rarely waits."""
F_SETPIPE_SZ = 1031
LOST = {"", "57P01", "57P02", "57P03", "08000", "08003", "08006", "08001", "08004"}
"""SQLSTATEs (or none at all) that mean that the server went away rather than refused."""
NOT_EXPORTED = {"22023", "42704", "55000"}
"""SQLSTATEs with which SET TRANSACTION SNAPSHOT fails when nobody holds the snapshot any more."""

BUSY = {"55P03", "40001", "40P01", "57014"}
"""SQLSTATEs of a lock held by others, a conflict with a standby's replay, a deadlock, a cancelled statement."""
DROPPED = {"42P01", "3F000"}
"""SQLSTATEs of a table or schema that does not exist any more."""

_TOO_LARGE = (
    "A row of it is too large: PostgreSQL makes no text of 1 GB or more, and a byte of bytea takes two characters. No "
    "dump can hold it: move the value into a large object or into parts, or give the table a class that is never "
    "backed up."
)
_CAUSES = {"XX000": _TOO_LARGE, "54000": _TOO_LARGE}
"""What is said of the SQLSTATEs with which PostgreSQL refuses to make a row's text."""

_REFUSED = re.compile(r"psql: error: (connection|could not connect)\b.*\bFATAL:  (?!the database system)", re.DOTALL)
"""What psql says where a server answers that it takes no connection, in whichever language the reason follows; not
while it starts or ends."""


class Psql:
    """A psql that stays inside one transaction; statements go in, COPY text comes out.

    psql reports errors by SQLSTATE only, because PostgreSQL's messages quote rows.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], preamble: str) -> None:
        """Connect and join the exported snapshot.

        psql stays in this process's group, so that killing the group ends psql too: while it waits for a silent server,
        it would notice nothing. Raises SourceGoneError when the snapshot is gone, SourceError.
        """
        self._process = subprocess.Popen(
            [*command, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate", "-f", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type checker: they were asked for above
        assert self._process.stdout is not None  # noqa: S101 - as above
        self._input = self._process.stdin
        self._output = self._process.stdout.fileno()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, F_SETPIPE_SZ, PIPE)
        self.rows = 0
        """Rows that psql counted, valid after `copy` is exhausted."""
        self._mark = secrets.token_hex(16).encode()
        self._locked: set[str] = set()
        try:
            self._join(preamble)
            self._settings = self._do(read_back())
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Check that the session is as it was when it began to read.

        Code of an application, run while a row is read, could have changed how the rows after it are written.
        `backupd manual trust`, row *the session that reads rows*. Raises SourceError.
        """
        if self._do(read_back()) != self._settings:
            raise SourceError(
                "something that PostgreSQL ran while rows were read changed the settings of the session",
                hint="An operator or a cast of the application does it. Nothing of this snapshot was published.",
            )

    def lock(self, tables: Iterable[tuple[int, str]]) -> None:
        """Lock tables for the rest of the transaction without waiting.

        Each table is given by its oid, and by statements that lock it and answer the oid of what they locked: the name
        may be another table's by now. Waiting could go on forever: the lock's holder may wait for a lock of another
        connection of ours, a circle that PostgreSQL cannot see. Raises SourceBusyError, SourceGoneError, SourceError.
        """
        for oid, statements in tables:
            if statements not in self._locked:
                if self._do(statements, oid=oid) != b"%d\n" % oid:
                    raise _renamed()
                self._locked.add(statements)

    def copy(self, statement: str, *, hash_join: bool = False, oid: int | None = None) -> Iterator[bytes]:
        """Yield the output of a COPY statement in blocks of any size; the server's row count is in `rows` afterwards.

        `hash_join` allows it that plan. An error names the table by its `oid`, as its name may be data. Raises
        SourceError, SourceGoneError.
        """
        # psql keeps COPY's row count only when the output goes elsewhere than results do: hence the file.
        copy = f"{statement} \\g /dev/stdout\n\\echo {self._mark.decode()} :ROW_COUNT\n"
        self._send(f"{ALLOW_HASH_JOIN};\n{copy}{FORBID_HASH_JOIN};\n" if hash_join else copy)
        held = b""
        while block := os.read(self._output, BLOCK):
            block = held + block if held else block
            held = b""
            last = block.rfind(b"\n", 0, -1) + 1
            # The mark is drawn at random, and stands at the start of the last line: no row can be taken for it.
            if self._mark.startswith(block[last : last + len(self._mark)].rstrip(b"\n")):
                block, held = block[:last], block[last:]
            if block:
                yield block
            if held.startswith(self._mark) and held.endswith(b"\n"):
                self.rows = int(held.split()[1])
                return
        raise self._failure(reading=oid)

    def _join(self, preamble: str) -> None:
        self._do(preamble, joining=True)

    def _do(self, statements: str, *, joining: bool = False, oid: int | None = None) -> bytes:
        """Run statements and return their output, which must be short; `oid` is that of the table they concern."""
        self._send(f"{statements};\n\\echo {self._mark.decode()}\n", joining=joining)
        end = self._mark + b"\n"
        output = b""
        while not output.endswith(end):
            block = os.read(self._output, BLOCK)
            if not block:
                raise self._failure(joining=joining, oid=oid)
            output += block
        return output.removesuffix(end)

    def close(self) -> None:
        """End the transaction and the process; closing an ended one is harmless."""
        with contextlib.suppress(OSError):
            self._input.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _send(self, text: str, *, joining: bool = False) -> None:
        try:
            self._input.write(text.encode())
            self._input.flush()
        except OSError as error:
            raise self._failure(joining=joining) from error

    def _failure(self, *, joining: bool = False, oid: int | None = None, reading: int | None = None) -> SourceError:
        stderr = self._process.stderr
        output = stderr.read().decode(errors="replace") if stderr is not None else ""
        code = output.rsplit(":", 1)[-1].strip() if "ERROR" in output or "FATAL" in output else ""
        code = code if len(code) == 5 and code.isalnum() else ""
        if joining and code in NOT_EXPORTED:
            return SourceGoneError(
                "the exported snapshot is gone", hint="PostgreSQL was restarted, or ended our session; run it again."
            )
        if joining and not code and _REFUSED.match(output):
            return SourceBusyError(
                "PostgreSQL took no further connection, by which a worker reads rows",
                hint="Look at max_connections, and at CONNECTION LIMIT of role and database: a backup has one for each "
                "of node.workers, and a few more.",
            )
        if code in LOST:
            return SourceGoneError(
                "the connection to PostgreSQL broke while rows were read",
                hint="The next run starts again and sends only what is not on the store yet.",
            )
        if code in BUSY | DROPPED:
            return _busy(code, oid)
        return _stopped(code, reading)


def _stopped(code: str, oid: int | None) -> SourceError:
    """Make the error for a refusal of PostgreSQL while rows were read; the table is given by its oid."""
    where = "" if oid is None else f" of the table with oid {oid}"
    named = "" if oid is None else f"`SELECT {oid}::regclass` in the database names it. "
    return SourceError(
        f"PostgreSQL stopped the reading of rows{where} with SQLSTATE {code}",
        hint=named + _CAUSES.get(code, "Look up the code in PostgreSQL's documentation, and the server's log."),
    )


def _busy(code: str, oid: int | None) -> SourceBusyError:
    """Make the error for a conflict with other sessions; the table, where it is known, is given by its oid."""
    if code in DROPPED:
        return _renamed()
    if oid is not None:
        return busy_table(oid)
    return SourceBusyError(
        f"somebody else was in the way of reading rows (SQLSTATE {code})",
        hint="A migration holds or waits for a lock, or the statement was cancelled; the next attempt may succeed.",
    )


def _renamed() -> SourceBusyError:
    return SourceBusyError(
        "a table or schema was renamed or dropped while rows were read",
        hint="The next attempt takes the database as it is then.",
    )
