"""Names and lines of the files that a restore into a folder writes, and the README.txt with the commands that load
them. Pure; `scripts/recover` has a copy of its own, so that it can stand alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backupd.model.ids import SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.postgres.connect import identifier, literal, qualified
from backupd.postgres.settings import as_written

if TYPE_CHECKING:
    from backupd.model.manifest import SequenceValue
    from backupd.planning.restore import Piece, RestorePlan, TablePlan

BEGINNING = "\\set ON_ERROR_STOP on\n\\encoding UTF8\n"
_SETTINGS = (
    "search_path = ''",
    "row_security = off",
    "array_nulls = on",
    "statement_timeout = 0",
    "lock_timeout = 0",
)
_DEFER = """\
SELECT coalesce(pg_catalog.string_agg(pg_catalog.format('ALTER TABLE %s ALTER CONSTRAINT %I NOT DEFERRABLE;',
  conrelid::pg_catalog.regclass, conname), ' '), '') AS keys_as_before
FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conparentid = 0 AND NOT condeferrable \\gset
SELECT pg_catalog.format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE', conrelid::pg_catalog.regclass, conname)
FROM pg_catalog.pg_constraint WHERE contype = 'f' AND conparentid = 0 AND NOT condeferrable \\gexec
SET CONSTRAINTS ALL DEFERRED;
"""
"""Extensions make foreign keys before their rows are there: all are checked at the end, as if they were deferrable."""
_THROUGH_ROOTS = """\
CREATE FUNCTION pg_temp.backupd_through_root() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
  IF pg_catalog.pg_trigger_depth() > 1 THEN RETURN NEW; END IF;
  EXECUTE TG_ARGV[0] USING NEW;
  RETURN NULL;
END$$;
CREATE VIEW pg_temp.backupd_leaves AS SELECT leaf.oid::pg_catalog.regclass AS leaf, pg_catalog.format(
  'INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s', above.root,
  pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' ORDER BY attnum),
  pg_catalog.string_agg('($1).' || pg_catalog.quote_ident(attname), ', ' ORDER BY attnum)) AS statement
FROM pg_catalog.pg_class AS leaf JOIN pg_catalog.pg_attribute ON attrelid = leaf.oid,
  LATERAL (SELECT pg_catalog.pg_partition_root(leaf.oid) AS root) AS above
WHERE leaf.relkind = 'r' AND leaf.relispartition AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND EXISTS (
  SELECT FROM pg_catalog.pg_partition_ancestors(leaf.oid) JOIN pg_catalog.pg_partitioned_table ON partrelid = relid
  WHERE partstrat = 'h')
GROUP BY leaf.oid, above.root;
SELECT pg_catalog.format('CREATE TRIGGER backupd_through_root BEFORE INSERT ON %1$s FOR EACH ROW
  EXECUTE FUNCTION pg_temp.backupd_through_root(%2$L); ALTER TABLE %1$s ENABLE ALWAYS TRIGGER backupd_through_root',
  leaf, statement) FROM pg_temp.backupd_leaves \\gexec
"""
"""What hashes to one partition at the source may hash to another here, as values of an enumeration do: rows of such
partitions are given to the root of their tree."""
_AS_BEFORE = """\
SELECT pg_catalog.format('DROP TRIGGER backupd_through_root ON %s', leaf) FROM pg_temp.backupd_leaves \\gexec
"""
_CHECK_DEFERRED = "SET CONSTRAINTS ALL IMMEDIATE;\n:keys_as_before\n"
_LONGEST = 60
"""Characters that a name in a path may have."""


class TableFile(NamedTuple):
    """The file with the rows of one table in one segment."""

    path: str
    """Path relative to the snapshot's folder."""
    table: TablePlan
    rows: int
    inline: bool
    """Whether it is a script that contains the rows: psql's \\copy takes no names that cannot be printed."""

    @property
    def target(self) -> str:
        """The table and columns as COPY names them; a table without columns takes no list."""
        columns = ", ".join(map(identifier, self.table.columns))
        return qualified(self.table.schema, self.table.name) + (f" ({columns})" if columns else "")


def safe(name: str) -> str:
    """Return a name that any file system takes."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:_LONGEST] or "_"


def tenant_folders(segments: Iterable[SegmentName]) -> dict[str, str]:
    """Return the folder of each tenant."""
    tenants = sorted({segment.tenant for segment in segments if segment.tenant is not None})
    return {tenant: f"tenant-{number}-{safe(tenant)}" for number, tenant in enumerate(tenants, 1)}


def table_files(
    plan: RestorePlan, segments: Sequence[SegmentName], folders: Mapping[str, str]
) -> dict[Piece, TableFile]:
    """Return the file of each piece; `segments` are those that the plan speaks of."""
    pieces = sorted(
        (piece for bundles in plan.passes for bundle in bundles for piece in bundle),
        key=lambda piece: (segments[piece.segment].tenant or "", segments[piece.segment].data_class, piece.table),
    )
    taken: set[str] = set()
    found: dict[Piece, TableFile] = {}
    for piece in pieces:
        segment, table = segments[piece.segment], plan.tables[piece.table]
        owner = "shared" if segment.tenant is None else folders[segment.tenant]
        inline = not f"{table.schema}{table.name}{''.join(table.columns)}".isprintable()
        stem = f"{owner}/{safe(segment.data_class)}/{safe(table.schema)}.{safe(table.name)}"
        path = _unused(stem, ".sql" if inline else ".copy", taken)
        found[piece] = TableFile(path, table, sum(rows for rows, _, _ in piece.unpacked()[0]), inline)
    return found


def load_lines(plan: RestorePlan, files: Iterable[TableFile]) -> Iterator[str]:
    """Yield the script that fills every table and sets every sequence, in one transaction."""
    yield f"{BEGINNING}BEGIN;\n"
    encoding = rows_encoding(plan)
    for name, value in as_written(plan.facts.settings).items():
        yield f"SET {identifier(name)} = {literal(value)};\n"
    yield f"\\set rows_encoding {encoding}\n"
    for setting in _SETTINGS:
        yield f"SET {setting};\n"
    yield _DEFER
    yield _THROUGH_ROOTS
    option = "" if encoding == "UTF8" else f" with (encoding '{encoding}')"
    for file in files:
        yield f"\\ir '{file.path}'\n" if file.inline else f"\\copy {file.target} from '{file.path}'{option}\n"
    yield _AS_BEFORE
    yield _CHECK_DEFERRED
    yield from map(_set_sequence, plan.sequences)
    yield "COMMIT;\n"


def rows_encoding(plan: RestorePlan) -> str:
    """Return PostgreSQL's name of the encoding in which the rows are written."""
    found = (plan.facts.settings or {}).get("client_encoding", "UTF8")
    return found if re.fullmatch(r"[A-Za-z0-9_]+", found) else "UTF8"


def refresh_lines(plan: RestorePlan) -> Iterator[str]:
    """Yield the script that fills materialized views; each is filled as its owner, under row security."""
    if plan.refresh:
        # A view that cannot be filled here keeps no other from being filled.
        yield "\\encoding UTF8\nSET row_security = on;\n"
    for schema, name in plan.refresh:
        yield f"REFRESH MATERIALIZED VIEW {qualified(schema, name)};\n"


def _set_sequence(value: SequenceValue) -> str:
    schema, name, last, called = value
    return f"SELECT pg_catalog.setval({literal(qualified(schema, name))}, {last}, {str(called).lower()});\n"


def _unused(stem: str, suffix: str, taken: set[str]) -> str:
    """Return a path that is not taken, nor by one that differs by case only."""
    path, number = stem + suffix, 1
    while path.lower() in taken:
        number += 1
        path = f"{stem}~{number}{suffix}"
    taken.add(path.lower())
    return path


_GUIDE = """Snapshot {snapshot}: {rows} rows.
{warning}
To load them, run the following in this folder, as a superuser of a PostgreSQL server of the same or a newer major
version, with the client programs of that version; PGHOST, PGPORT and PGUSER say where. To give it another name than it
had, change the two lines that begin with DATABASE.

  cd {folder}
  DATABASE={name}
  DATABASE_INFO={info}
  export PGOPTIONS="-c default_transaction_read_only=off -c array_nulls=on"
  {steps}

tenants.json says which folder is which tenant; `shared` are the rows of nobody in particular. Each .copy file is one
table's rows in COPY's text format, {encoding}. facts.json says what the server was, MANIFEST.json each file's size and
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
    """The facts about a written folder that its README.txt states."""

    snapshot: SnapshotName
    folder: Path
    rows: int
    exact: bool
    """Whether all of the snapshot is there."""
    name: object
    """The database's name as the snapshot's facts give it."""
    roles: int
    """Number of scripts that were joined in globals.sql."""
    files: frozenset[str]
    """Names of the files at the top of the folder."""
    encoding: str
    """PostgreSQL's name of that of the rows."""


def guide(written: Written) -> str:
    name = written.name if isinstance(written.name, str) and written.name.isprintable() else "restored"
    return _GUIDE.format(
        snapshot=written.snapshot,
        encoding=written.encoding,
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
        steps.append(f'{_QUIET} psql -X -q -o /dev/null -d "$DATABASE_INFO" -f refresh.sql')
    return [*steps, f'{_QUIET} psql -X -q -d "$DATABASE_INFO" -c "ANALYZE"']
