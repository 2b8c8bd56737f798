"""One psql per worker: COPY's output in large blocks, at a fraction of what reading it row by row costs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import subprocess
from typing import TYPE_CHECKING

from backupd.errors import SourceError, SourceGoneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

BLOCK = 128 << 10
"""Bytes read at once: rows cut from larger blocks fall out of the processor's cache before they are routed (a third
slower at 1 MiB, measured)."""
PIPE = 1 << 20
"""The pipe's capacity where the kernel allows: the server rarely waits."""
F_SETPIPE_SZ = 1031
LOST = {"", "57P01", "57P02", "57P03", "08000", "08003", "08006", "08001", "08004"}
"""SQLSTATEs (or none at all) that mean the server went away rather than refused."""
NOT_EXPORTED = {"22023", "42704", "55000"}
"""SQLSTATEs that SET TRANSACTION SNAPSHOT fails with when nobody holds the snapshot any more."""


class Psql:
    """A psql that stays inside one transaction; statements go in, COPY text comes out.

    psql is told to report errors by SQLSTATE only, because PostgreSQL's messages quote rows.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], preamble: str) -> None:
        """Connect and join the exported snapshot. Raises SourceGoneError when it is gone, SourceError.

        psql stays in this process's group, so that whoever ends the group ends it too: waiting for a silent server, it
        would notice nothing.
        """
        self._process = subprocess.Popen(
            [*command, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=sqlstate", "-f", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
        )
        assert self._process.stdin is not None  # noqa: S101 - said to the type checker: they were asked for above
        assert self._process.stdout is not None  # noqa: S101 - likewise
        self._input = self._process.stdin
        self._output = self._process.stdout.fileno()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._output, F_SETPIPE_SZ, PIPE)
        self.rows = 0
        """As psql counted them, after `copy` is exhausted."""
        self._mark = secrets.token_hex(16).encode()
        self._join(preamble)

    def copy(self, statement: str) -> Iterator[bytes]:
        """What a COPY statement sends, in blocks of any size; the server's row count is in `rows` afterwards.

        Raises SourceError, SourceGoneError.
        """
        # Only output that goes elsewhere than results do lets psql keep COPY's row count, hence the file.
        self._send(f"{statement} \\g /dev/stdout\n\\echo {self._mark.decode()} :ROW_COUNT\n")
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
        raise self._failure()

    def _join(self, preamble: str) -> None:
        self._send(f"{preamble};\n\\echo {self._mark.decode()}\n")
        said = b""
        while not said.endswith(self._mark + b"\n"):
            block = os.read(self._output, BLOCK)
            if not block:
                raise self._failure(joining=True)
            said += block

    def close(self) -> None:
        """End the transaction and the process; harmless when it has gone already."""
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

    def _send(self, text: str) -> None:
        try:
            self._input.write(text.encode())
            self._input.flush()
        except OSError as error:
            raise self._failure() from error

    def _failure(self, *, joining: bool = False) -> SourceError:
        stderr = self._process.stderr
        said = stderr.read().decode(errors="replace") if stderr is not None else ""
        code = said.rsplit(":", 1)[-1].strip() if "ERROR" in said or "FATAL" in said else ""
        code = code if len(code) == 5 and code.isalnum() else ""
        if joining and code in NOT_EXPORTED:
            return SourceGoneError(
                "the exported snapshot is gone", hint="PostgreSQL was restarted, or ended our session; run it again."
            )
        if code in LOST:
            return SourceGoneError(
                "the connection to PostgreSQL broke while rows were read",
                hint="The next run starts again and sends only what is not on the store yet.",
            )
        return SourceError(
            f"PostgreSQL stopped the reading of rows with SQLSTATE {code}",
            hint="Look up the code in PostgreSQL's documentation, and the server's log for the statement.",
        )
