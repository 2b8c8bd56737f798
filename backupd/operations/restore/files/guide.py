"""README.txt: what was written, and the commands that load it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backupd.model.ids import SnapshotName

_GUIDE = """Snapshot {snapshot}: {rows} rows.
{warning}
To load them, run the following in this folder, as a superuser of a PostgreSQL server of the same or a newer major
version, with the client programs of that version; PGHOST, PGPORT and PGUSER say where. To give it another name than it
had, change the two lines that begin with DATABASE.

  cd {folder}
  DATABASE={name}
  DATABASE_INFO={info}
  export PGOPTIONS="-c default_transaction_read_only=off"
  {steps}

tenants.json says which folder is which tenant; `shared` are the rows of nobody in particular. Each .copy file is one
table's rows in COPY's text format, UTF-8. facts.json says what the server was, MANIFEST.json each file's size and
SHA-256. Keep this folder safe: nothing in it is encrypted.
"""
_LEFT_OUT = """
Rows are left out: they were purged, have expired, or were not asked for. Keys in foreign-keys.sql that refer to such
rows cannot be made: add NOT VALID at their end, and they hold for new rows.
"""
_QUIET = 'PGOPTIONS="$PGOPTIONS -c session_replication_role=replica"'  # event triggers stay out of it
_STOPPING = "psql -X -q -o /dev/null -v ON_ERROR_STOP=1"
_IN_DATABASE = ("schema-before.sql", "large-objects.sql", "load.sql", "schema-after.sql", "foreign-keys.sql")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and where to."""

    snapshot: SnapshotName
    folder: Path
    rows: int
    exact: bool
    """Whether all of the snapshot is there."""
    name: object
    """What the facts say that the database was called."""
    roles: int
    """Scripts that were joined in globals.sql."""
    files: frozenset[str]
    """At the top of the folder."""


def guide(written: Written) -> str:
    name = written.name if isinstance(written.name, str) and written.name.isprintable() else "restored"
    return _GUIDE.format(
        snapshot=written.snapshot,
        rows=written.rows,
        warning="" if written.exact else _LEFT_OUT,
        folder=shlex.quote(str(written.folder)),
        name=shlex.quote(name),
        info=shlex.quote("dbname='" + name.replace("\\", "\\\\").replace("'", "\\'") + "'"),
        steps="\n  ".join(_steps(written.files, written.roles)),
    )


def _steps(files: frozenset[str], roles: int) -> Sequence[str]:
    steps = []
    if roles:
        steps.append(
            "# Roles; those that exist are reported and stay as they are. Segments' roles refer to each other's:"
        )
        steps += ["psql -X -q -d postgres -f globals.sql"] * min(roles, 2)
    steps.append(f'{_STOPPING} -v DATABASE="$DATABASE" -d postgres -f database.sql')
    steps += [f'{_STOPPING} -d "$DATABASE_INFO" -f {name}' for name in _IN_DATABASE if name in files]
    if "refresh.sql" in files:
        steps.append(f'{_QUIET} {_STOPPING} -d "$DATABASE_INFO" -f refresh.sql')
    return [*steps, f'{_QUIET} psql -X -q -d "$DATABASE_INFO" -c "ANALYZE"']
