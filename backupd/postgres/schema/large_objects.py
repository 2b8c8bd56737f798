"""Large objects as an archive of nothing else: pg_dump's, without the entries it always adds about the database itself.

Those would name roles, maybe tenants', in a file that belongs to nobody. Runs as a program of its own between pg_dump
and whoever reads: `filtered` gives its arguments.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, cast

from backupd.errors import SourceError
from backupd.postgres.schema.archive import ArchiveReader, Entry

_BLOCK = 1 << 20
_FRAME = {"ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOB", "BLOB METADATA", "BLOBS"}
_ABOUT = {"ACL", "COMMENT", "SECURITY LABEL"}


def filtered(command: Sequence[str]) -> list[str]:
    """Arguments of a program that runs pg_dump's `command` and passes on large objects only, with its exit status."""
    root = str(Path(__file__).parents[__name__.count(".")])
    code = f"import sys; sys.path.insert(0, {root!r}); from {__name__} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-I", "-c", code, *command]


def main(command: Sequence[str]) -> int:
    """Run pg_dump and filter what it writes; its exit status, or 1 for an archive that makes no sense."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        source = cast("IO[bytes]", process.stdout)
        try:
            only_large_objects(source.read, sys.stdout.buffer.write)
        except SourceError:
            process.kill()
            return process.wait() or 1
    sys.stdout.buffer.flush()
    return process.returncode


def only_large_objects(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
    """Copy an archive without entries that are not about large objects; its data follows unchanged.

    Raises SourceError for what is no archive.
    """
    reader = ArchiveReader(read)
    kept = [entry.raw for entry in reader.entries() if _is_large_object(entry)]
    write(reader.head + bytes([0]) + len(kept).to_bytes(reader.shape.integer, "little"))
    for raw in kept:
        write(raw)
    while block := read(_BLOCK):
        write(block)


def _is_large_object(entry: Entry) -> bool:
    if entry.description in _ABOUT:
        return entry.tag.startswith(("LARGE OBJECT ", "LARGE OBJECTS "))
    return entry.description in _FRAME
