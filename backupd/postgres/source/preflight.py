"""Checks whether a backup of this database can be complete: the role's rights, the server's limits, the programs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from backupd.errors import BackupdError, SourceError
from backupd.model.findings import Finding, Severity
from backupd.model.inventory import Inventory, Table, TableKind, TableName
from backupd.model.text import counted
from backupd.postgres.client_programs import find_programs
from backupd.postgres.connect import Connection, Source, identifier, refuse_pooler

OLDEST = 130000
"""The `server_version_num` of the oldest supported server."""

_NAMED = 5
"""Tables that a finding names."""

_ROLE = "SELECT rolsuper, rolname FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
_UNREADABLE = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = ANY (%s::oid[]) AND NOT (pg_catalog.has_table_privilege(c.oid, 'SELECT')
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'))
"""
_SEQUENCES_UNREADABLE = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT (pg_catalog.has_sequence_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'))
"""
_ROW_SECURITY = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c
WHERE c.oid = ANY (%s::oid[]) AND pg_catalog.row_security_active(c.oid)
"""
_LARGE_OBJECTS_UNREADABLE = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata m
WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS (
  SELECT FROM pg_catalog.aclexplode(m.lomacl) a
  WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
  AND pg_catalog.current_setting('lo_compat_privileges') = 'off'
"""
_LOCK_SLOTS = """
SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8
  * (pg_catalog.current_setting('max_connections')::int8
     + pg_catalog.current_setting('max_prepared_transactions')::int8)
"""
_CONNECTION_LIMITS = """
SELECT d.datconnlimit, r.rolconnlimit FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
WHERE d.datname = pg_catalog.current_database() AND r.rolname = SESSION_USER AND NOT r.rolsuper
"""
"""How many sessions the database and the role may have, -1 without a limit; a superuser is not counted."""
_BESIDE_WORKERS = 3
"""Connections of a backup that are open beside those of its workers: the holder's, the one that looks who waits for
its locks, and pg_dump's."""
_SUBSCRIPTIONS = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = pg_catalog.current_database()
"""


_UNLOGGED_SEQUENCES = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c WHERE c.relkind = 'S' AND c.relpersistence = 'u'
"""
_MAPPINGS = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_user_mappings v WHERE v.umoptions IS NULL
"""
_READABLE_MAPPINGS = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_user_mappings v JOIN pg_catalog.pg_user_mapping m ON m.oid = v.umid
WHERE v.umoptions IS NULL AND m.umoptions IS NOT NULL
"""
_MAY_READ_MAPPINGS = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')::int"
_NULLABLE_HEIRS = """
SELECT pg_catalog.count(DISTINCT i.inhrelid) FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_attribute p ON p.attrelid = i.inhparent AND p.attnum > 0 AND p.attnotnull
JOIN pg_catalog.pg_attribute c ON c.attrelid = i.inhrelid AND c.attname = p.attname AND NOT c.attnotnull
"""
_WRITTEN_ONLY = """
SELECT pg_catalog.count(DISTINCT a.attrelid) FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped AND t.typname IN (
  'pg_node_tree', 'pg_ndistinct', 'pg_dependencies', 'pg_mcv_list', 'pg_brin_bloom_summary',
  'pg_brin_minmax_multi_summary')
"""
"""Counts tables with a column of a type whose input is refused always; one copied from a catalog has such columns."""
_BOUND = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_extension e WHERE e.extname = 'pg_cron'"
"""Counts extensions that can be made only in the one database that a setting of their server names."""
_NOT_NULL_NO_INHERIT = 180000
"""From this version on, a NOT NULL that a table keeps to itself is dumped as such."""


def preflight(
    connection: Connection,
    source: Source,
    inventory: Inventory,
    never: Collection[TableName] = (),
    workers: int = 1,
) -> tuple[Finding, ...]:
    """List everything in this database that stands in the way of a complete backup, errors first.

    Rows of the tables in `never` are not read; up to `workers` connections read rows. Raises only errors that stop the
    checks themselves: SourceGoneError, SourceError.
    """
    check = _Check(connection, source, inventory, never, workers)
    steps: Sequence[Callable[[], Iterator[Finding]]] = (
        check.path,
        check.version,
        check.role,
        check.tables,
        check.row_security,
        check.large_objects,
        check.locks,
        check.connections,
        check.standby,
        check.subscriptions,
        check.user_mappings,
        check.members,
        check.nullable_heirs,
        check.written_only,
        check.bound_extensions,
    )
    findings = [finding for step in steps for finding in step()]
    return tuple(sorted(findings, key=lambda finding: finding.severity is not Severity.ERROR))


def _is_unsaved(table: Table) -> bool:
    """Check whether a table is a member of an extension that does not have its rows dumped, and has rows."""
    rows = table.kind in {TableKind.TABLE, TableKind.PARTITION} and table.blocks > 0
    return rows and table.extension is not None and table.condition is None


class _Check:
    def __init__(
        self, connection: Connection, source: Source, inventory: Inventory, never: Collection[TableName], workers: int
    ) -> None:
        self._connection = connection
        self._source = source
        self._dumped = [table.oid for table in inventory.tables if table.dumped]
        self._unlogged = sum(
            table.dumped and not table.logged and table.name not in never for table in inventory.tables
        )
        self._unsaved = [table for table in inventory.tables if _is_unsaved(table)]
        self._relations = len(inventory.tables)
        self._connections = _BESIDE_WORKERS + min(workers, len(self._dumped))
        self._super, role = connection.execute(_ROLE).fetchall()[0]
        self._role = identifier(role)

    def _count(self, query: str, *arguments: object) -> int:
        return int(self._connection.execute(query.encode(), arguments or None).fetchall()[0][0])

    def path(self) -> Iterator[Finding]:
        try:
            refuse_pooler(self._connection)
        except SourceError as error:
            yield Finding(Severity.ERROR, "pooler", error.message, error.hint)

    def version(self) -> Iterator[Finding]:
        version = self._connection.info.server_version
        if version < OLDEST:
            yield Finding(
                Severity.ERROR,
                "server-version",
                f"the server is PostgreSQL {version // 10000}, older than any this backs up",
                "Upgrade it to PostgreSQL 13 or newer.",
            )
        try:
            find_programs(self._source.client_folders, version)
        except BackupdError as error:
            yield Finding(Severity.ERROR, "client-version", error.message, error.hint)

    def role(self) -> Iterator[Finding]:
        if self._super:
            yield Finding(
                Severity.WARNING,
                "superuser",
                "the role is a superuser, which a backup does not need",
                "CREATE ROLE backupd LOGIN BYPASSRLS; GRANT pg_read_all_data TO backupd; and connect as that.",
            )

    def tables(self) -> Iterator[Finding]:
        count = self._count(_UNREADABLE, self._dumped) + self._count(_SEQUENCES_UNREADABLE)
        if count:
            yield Finding(
                Severity.ERROR,
                "unreadable",
                f"the role cannot read {counted(count, 'relation')}",
                f"{self._grant_all()} as a superuser.",
            )

    def row_security(self) -> Iterator[Finding]:
        count = self._count(_ROW_SECURITY, self._dumped)
        if count:
            yield Finding(
                Severity.ERROR,
                "row-security",
                f"row-level security hides rows of {counted(count, 'table')} from the role",
                f"ALTER ROLE {self._role} BYPASSRLS; as a superuser.",
            )

    def large_objects(self) -> Iterator[Finding]:
        count = 0 if self._super else self._count(_LARGE_OBJECTS_UNREADABLE)
        if count:
            yield Finding(
                Severity.ERROR,
                "large-objects",
                f"the role cannot read {counted(count, 'large object')}",
                f"ALTER ROLE {self._role} SET lo_compat_privileges = on; as a superuser, "
                f"or for each of them GRANT SELECT ON LARGE OBJECT … TO {self._role};",
            )

    def locks(self) -> Iterator[Finding]:
        slots = self._count(_LOCK_SLOTS)
        if self._relations > slots // 2:
            yield Finding(
                Severity.ERROR if self._relations > slots else Severity.WARNING,
                "lock-slots",
                f"{self._relations} relations need locks, and the server has {slots} slots for all its sessions",
                "Raise max_locks_per_transaction there, which needs a restart.",
            )

    def connections(self) -> Iterator[Finding]:
        limits = self._connection.execute(_CONNECTION_LIMITS).fetchall()
        whose = ("database", "ALTER DATABASE …"), ("role", f"ALTER ROLE {self._role}")
        for (of, statement), limit in zip(whose, limits[0] if limits else (), strict=False):
            if 0 <= limit < self._connections:
                yield Finding(
                    Severity.ERROR,
                    "connection-limit",
                    f"the {of} may have {counted(limit, 'session')}, and a backup needs {self._connections} at once",
                    f"{statement} CONNECTION LIMIT -1; as a superuser, or a number that leaves these to backups. "
                    "Fewer node.workers need fewer.",
                )

    def standby(self) -> Iterator[Finding]:
        if not self._connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchall()[0][0]:
            return
        yield Finding(
            Severity.WARNING,
            "standby",
            "the server is a standby, whose replay can cancel a long read",
            "Set max_standby_streaming_delay there longer than a backup takes, or back up the primary.",
        )
        if self._unlogged:
            yield Finding(
                Severity.ERROR,
                "standby-unlogged",
                f"{counted(self._unlogged, 'unlogged table')} cannot be read on a standby",
                "Back up the primary, or give these tables a data class with the policy 'never'.",
            )
        sequences = self._count(_UNLOGGED_SEQUENCES)
        if sequences:
            yield Finding(
                Severity.WARNING,
                "standby-unlogged-sequences",
                f"the values of {counted(sequences, 'unlogged sequence')} cannot be read on a standby",
                "A restore begins as they were made. Back up the primary, or ALTER SEQUENCE … SET LOGGED there.",
            )

    def subscriptions(self) -> Iterator[Finding]:
        count = 0 if self._super else self._count(_SUBSCRIPTIONS)
        if count:
            yield Finding(
                Severity.WARNING,
                "subscriptions",
                f"{counted(count, 'subscription')} not backed up: only a superuser can read them",
                "Keep their definitions elsewhere, or connect as a superuser.",
            )

    def user_mappings(self) -> Iterator[Finding]:
        if self._super:
            return
        count = self._count(_READABLE_MAPPINGS if self._count(_MAY_READ_MAPPINGS) else _MAPPINGS)
        if count:
            yield Finding(
                Severity.WARNING,
                "user-mappings",
                f"{counted(count, 'user mapping')} backed up without options and passwords: pg_dump cannot read them",
                "Keep them elsewhere: after a restore they are to be set by ALTER USER MAPPING.",
            )

    def members(self) -> Iterator[Finding]:
        if self._unsaved:
            named = ", ".join(sorted({f"{table.name.table} ({table.extension})" for table in self._unsaved})[:_NAMED])
            yield Finding(
                Severity.WARNING,
                "extension-tables",
                f"{counted(len(self._unsaved), 'table')} of extensions with rows not backed up: {named}",
                "pg_dump leaves them out, too: the extension does not register them by pg_extension_config_dump. "
                "ALTER EXTENSION … DROP TABLE makes them tables of yours.",
            )

    def nullable_heirs(self) -> Iterator[Finding]:
        old = self._connection.info.server_version < _NOT_NULL_NO_INHERIT
        count = self._count(_NULLABLE_HEIRS) if old else 0
        if count:
            yield Finding(
                Severity.WARNING,
                "nullable-heirs",
                f"{counted(count, 'table')} may hold nulls where a table that it inherits from may not: no restore, "
                "pg_restore's neither, takes such rows",
                "Fill them, and ALTER TABLE … ALTER … SET NOT NULL; or DROP NOT NULL of the table inherited from.",
            )

    def written_only(self) -> Iterator[Finding]:
        count = self._count(_WRITTEN_ONLY, self._dumped)
        if count:
            yield Finding(
                Severity.WARNING,
                "written-only",
                f"{counted(count, 'table')} made from system catalogs: no restore, pg_restore's neither, takes rows "
                "with a pg_node_tree or the like",
                "ALTER TABLE … ALTER … TYPE text for such columns, or drop them; pg_dump writes them all the same.",
            )

    def bound_extensions(self) -> Iterator[Finding]:
        if self._count(_BOUND):
            yield Finding(
                Severity.WARNING,
                "bound-extension",
                "pg_cron can be made in the database only that its server's cron.database_name names: --target, which "
                "fills one of another name first, and drills on servers of their own cannot restore it",
                "`restore files` can, where the server preloads it; or --keep-going, without pg_cron and its jobs.",
            )

    def _grant_all(self) -> str:
        if self._connection.info.server_version >= 140000:
            return f"GRANT pg_read_all_data TO {self._role};"
        return f"GRANT USAGE ON SCHEMA … and GRANT SELECT ON ALL TABLES, ALL SEQUENCES IN SCHEMA … TO {self._role};"
