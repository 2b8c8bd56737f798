"""Schema, roles, large objects and facts on real servers: nothing lost, and each segment its own."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles.servers.postgres import Server, quoted
from fix_postgres import Database, unique

from backupd.errors import BackupdError, SourceError, SourceGoneError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.client_programs import Client, client, find_programs, run
from backupd.postgres.connect import Connection, Source, connect, resolved
from backupd.postgres.schema.archive import ArchiveReader, join_archive, unpack_entries
from backupd.postgres.schema.dump import dump_globals, dump_schema, large_objects_command
from backupd.postgres.source.exported import ExportedSnapshot, hold
from backupd.postgres.source.facts import SourceFacts, divide_facts, read_facts, read_sequences

NOBODYS = Tenancy(TenancyKind.NONE)


@dataclass(frozen=True)
class Held:
    """An exported snapshot with the programs to read it."""

    exported: ExportedSnapshot
    connection: Connection
    client: Client
    names: NamePatterns


@contextmanager
def held(database: Database, tenancy: Tenancy = NOBODYS) -> Iterator[Held]:
    source = Source(database.conninfo, client_folders=(database.server.bin,))
    with hold(source) as holder:
        programs = find_programs(source.client_folders, holder.exported.version, search="")
        with client(programs, resolved(holder.connection)) as started:
            names = NamePatterns(tenancy, holder.exported.database)
            yield Held(holder.exported, holder.connection, started, names)


def plain_archive(held: Held) -> bytes:
    """pg_dump's own, under the same snapshot."""
    options = ("-Fc", "-Z0", "--create", "--schema-only", f"--snapshot={held.exported.identifier}")
    return run(held.client.command("pg_dump", *options), held.client.environment)


def without_date(archive: bytes) -> bytes:
    """An archive but for the seven numbers that say when it was made."""
    reader = ArchiveReader(io.BytesIO(archive).read)
    width = 1 + reader.shape.integer
    at = 11 + (width if reader.shape.version < (1, 15) else 1)
    return archive[:at] + archive[at + 7 * width :]


def as_sql(server: Server, archive: bytes) -> list[str]:
    """The archive as statements, without what differs by chance."""
    arguments = [server.bin / "pg_restore", "--create", "-f", "-"]
    text = subprocess.run(arguments, input=archive, capture_output=True, check=True).stdout.decode()
    return [
        line for line in text.splitlines() if line and not line.startswith(("--", "\\", "SET ", "SELECT pg_catalog"))
    ]


class TestSchema:
    def test_the_parts_make_pg_dumps_archive_again(self, every_type: Database) -> None:
        """For a database of every type: taken apart and joined, byte for byte what pg_dump wrote."""
        with held(every_type) as source:
            divided = dump_schema(source.client, source.exported, source.names)
            original = plain_archive(source)
        assert list(divided.entries) == [None]
        joined = join_archive(divided.head, unpack_entries(divided.entries[None]))
        assert without_date(joined) == without_date(original)

    def test_every_dependency_is_in_the_archive(self, every_type: Database) -> None:
        """Dependencies lead to entries of the same archive: what lacks one can be told."""
        with held(every_type) as source:
            entries = list(ArchiveReader(io.BytesIO(plain_archive(source)).read).entries())
        known = {entry.dump_id for entry in entries}
        assert len(known) == len(entries) > 100
        # The schema "public" is there without being made.
        assert {entry.tag for entry in entries if not known.issuperset(entry.dependencies)} <= {"SCHEMA public"}

    def test_tenants_get_their_own_objects(self, database: Database, make_role: Callable[..., str]) -> None:
        """A schema's objects, and what cannot exist without them, are the tenant's; grants are cut by grantee."""
        one, two, staff = unique("acme"), unique("marker"), make_role(database.server, "NOLOGIN")
        for name in (one, two):
            make_role(database.server, "NOLOGIN", name=f"t_{name}")
        database.sql(
            f"CREATE TABLE plain (id int PRIMARY KEY); GRANT ALL ON plain TO t_{two}",
            f"GRANT SELECT ON plain TO t_{one}, {staff}",
            f"CREATE SCHEMA t_{one} AUTHORIZATION t_{one}; CREATE SCHEMA t_{two}",
            f"CREATE TABLE t_{one}.x (id serial PRIMARY KEY); CREATE TABLE t_{two}.x (id int REFERENCES plain)",
            f"COMMENT ON SCHEMA t_{one} IS 'of one'; GRANT USAGE ON SCHEMA t_{two} TO {staff}",
            f"CREATE VIEW of_two AS SELECT id FROM t_{two}.x; CREATE VIEW on_it AS SELECT id FROM of_two",
            f"CREATE VIEW of_both AS SELECT id FROM t_{one}.x UNION SELECT id FROM t_{two}.x",
            f"CREATE POLICY mine ON plain TO t_{two} USING (true)",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE t_{one} GRANT SELECT ON TABLES TO t_{two}",
            f"CREATE PUBLICATION p FOR TABLE plain, t_{one}.x",
            f"ALTER DATABASE {database.name} SET work_mem = '6MB'",
            f"ALTER ROLE t_{one} IN DATABASE {database.name} SET work_mem = '5MB'",
        )
        pattern = r"t_(?P<tenant>\w+)"
        tenancy = Tenancy(TenancyKind.SCHEMA, schema_pattern=pattern, role_pattern=pattern)
        try:
            with held(database, tenancy) as source:
                divided = dump_schema(source.client, source.exported, source.names)
                everything = as_sql(database.server, plain_archive(source))
        finally:
            database.sql(
                f"DROP SCHEMA t_{one}, t_{two} CASCADE",
                *(f"DROP OWNED BY {role}" for role in (f"t_{one}", f"t_{two}", staff)),
                f"ALTER ROLE t_{one} IN DATABASE {database.name} RESET ALL",
            )
        parts = {
            tenant: as_sql(database.server, join_archive(divided.head, unpack_entries(data)))
            for tenant, data in divided.entries.items()
        }
        assert set(parts) == {None, one, two}
        for tenant, other in ((one, two), (two, one)):
            words = "\n".join(parts[tenant])
            assert f"CREATE SCHEMA t_{tenant};" in parts[tenant]
            if tenant == two:
                assert "CREATE VIEW public.on_it AS" in words
                assert f"CREATE POLICY mine ON public.plain TO t_{two} USING (true);" in words
                assert f"ALTER DEFAULT PRIVILEGES FOR ROLE t_{one} GRANT SELECT ON TABLES" in words
            else:
                assert f"IN DATABASE {database.name} SET work_mem TO '5MB';" in words
                assert f"ALTER PUBLICATION p ADD TABLE ONLY t_{one}.x;" in words
                assert other not in words
        shared = "\n".join(parts[None])
        assert f"GRANT SELECT ON TABLE public.plain TO {staff};" in shared
        assert "SET work_mem TO '6MB';" in shared
        assert "CREATE VIEW public.of_both AS" in shared
        assert two not in shared.replace(f"t_{two}.x", "")
        joined = join_archive(divided.head, [one for data in divided.entries.values() for one in unpack_entries(data)])
        assert sorted(as_sql(database.server, joined)) == sorted(everything)

    def test_a_whole_database_may_be_a_tenants(self, database: Database) -> None:
        """By database, everything is the tenant's, grants included."""
        database.sql("CREATE TABLE t (n int); GRANT SELECT ON t TO PUBLIC")
        tenancy = Tenancy(TenancyKind.DATABASE, database_pattern=r"db_(?P<tenant>\w+)")
        with held(database, tenancy) as source:
            divided = dump_schema(source.client, source.exported, source.names)
        assert list(divided.entries) == [database.name.removeprefix("db_")]

    def test_a_failing_pg_dump_is_named_without_its_words(self, database: Database) -> None:
        """What pg_dump says stays inside; a snapshot that is gone is worth a retry."""
        database.sql("CREATE TABLE marker (n int)")
        with held(database) as source:
            gone = ExportedSnapshot("00000003-0000001B-1", *(getattr(source.exported, name) for name in
                            ("instant", "lsn", "version", "database", "standby")))  # fmt: skip
            with pytest.raises(SourceGoneError, match="snapshot is gone"):
                dump_schema(source.client, gone, source.names)
            with database.server.connect(database.name) as other:
                other.execute("BEGIN; CREATE TABLE late_marker (n int)")
                dump_schema(source.client, source.exported, source.names)
            with pytest.raises(SourceError) as caught:
                run(source.client.command("pg_dump", "--table=marker_none"), source.client.environment)
            assert "marker" not in str(caught.value) + caught.value.hint


class TestGlobals:
    def test_roles_come_back_as_pg_dumpall_tells_them(self, every_type: Database) -> None:
        """Nobody's statements, without tenants, are all of pg_dumpall's, without the first superuser's name."""
        with held(every_type) as source:
            (text,) = dump_globals(source.client, source.connection, source.names).values()
            command = source.client.command("pg_dumpall", "--globals-only", "-l", "service=backupd")
            words = run(command, source.client.environment).decode()
        assert 'CREATE ROLE "zoo ""odd"" rôle";' in text
        assert "ALTER ROLE zoo_reader SET search_path TO 'zoo', 'odd', 'public';" in text or "search_path" in text
        assert "COMMENT ON ROLE zoo_group IS 'a group; with ''quotes'' and -- no comment';" in text
        words = words.replace(" GRANTED BY postgres;", ";")
        expected = [line for line in words.splitlines() if line and not line.startswith(("--", "\\"))]
        assert sorted(text.splitlines()) == sorted(expected)

    def test_a_tenants_roles_are_its_own(
        self, pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str]
    ) -> None:
        """Creation, settings, comments and memberships of a tenant's role stand in that tenant's globals only."""
        database = make_database(pg17)
        role, group = make_role(pg17, "LOGIN PASSWORD 'secret' VALID UNTIL 'infinity'"), make_role(pg17, "NOLOGIN")
        database.sql(
            f"GRANT {group} TO {role}", f"ALTER ROLE {role} SET work_mem = '7MB'", f"COMMENT ON ROLE {role} IS 'x'"
        )
        tenancy = Tenancy(TenancyKind.COLUMN, "tenant_id", role_pattern=f"(?P<tenant>{role})")
        with held(database, tenancy) as source:
            divided = dump_globals(source.client, source.connection, source.names)
        own = divided[role].splitlines()
        assert [line.split()[0] for line in own] == ["CREATE", "ALTER", "COMMENT", "ALTER", "GRANT"]
        assert "PASSWORD 'SCRAM-SHA-256$" in own[1]
        assert role not in divided[None]
        assert group in divided[None]

    def test_passwords_are_told_only_to_who_may_see_them(
        self, pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str]
    ) -> None:
        """A role that cannot read password hashes still gets the roles."""
        database, role = make_database(pg17), make_role(pg17, "LOGIN PASSWORD 'secret'")
        source = Source(pg17.conninfo(database.name, role), client_folders=(pg17.bin,))
        with hold(source) as holder, client(find_programs((), 170000), resolved(holder.connection)) as started:
            text = dump_globals(started, holder.connection, NamePatterns(NOBODYS, database.name))[None]
        assert f"CREATE ROLE {role};" in text
        assert "PASSWORD" not in text


class TestLargeObjects:
    def test_they_come_back_with_owners_privileges_and_comments(
        self, every_type: Database, make_database: Callable[..., Database], tmp_path: Path
    ) -> None:
        """The archive holds large objects and nothing else, and restores them as they were."""
        with held(every_type) as source:
            command = large_objects_command(source.client, source.connection, source.exported)
            assert command is not None
            archive = tmp_path / "large-objects"
            archive.write_bytes(run(command, source.client.environment))
        with archive.open("rb") as file:
            reader = ArchiveReader(file.read)
            kinds = {(entry.description, entry.tag.split()[0]) for entry in reader.entries()}
        assert {kind for kind, _ in kinds} <= {
            "ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOB", "BLOB METADATA", "BLOBS", "ACL", "COMMENT",
        }  # fmt: skip
        assert {tag for kind, tag in kinds if kind in ("ACL", "COMMENT")} == {"LARGE"}
        target = make_database(every_type.server)
        arguments = [every_type.server.bin / "pg_restore", "--exit-on-error", "-d", target.conninfo, archive]
        subprocess.run(arguments, check=True, capture_output=True)
        query = (
            "SELECT m.oid, pg_get_userbyid(m.lomowner), m.lomacl::text[], md5(lo_get(m.oid)), obj_description(m.oid, "
            "'pg_largeobject') FROM pg_largeobject_metadata m ORDER BY 1"
        )
        assert len(every_type.sql(query)) == 4
        assert [_sorted_acl(row) for row in target.sql(query)] == [_sorted_acl(row) for row in every_type.sql(query)]

    def test_a_database_without_any_needs_no_file(self, database: Database) -> None:
        """No command where there are no large objects."""
        with held(database) as source:
            assert large_objects_command(source.client, source.connection, source.exported) is None


def _sorted_acl(row: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(sorted(value) if isinstance(value, list) else value for value in row)


class TestFacts:
    def test_facts_say_what_a_restore_needs(self, every_type: Database) -> None:
        """Versions, encoding, settings, extensions and collations of the database, whatever the version."""
        with held(every_type) as source:
            facts = read_facts(source.connection)
        assert facts["server_version"] // 10000 == every_type.server.major
        assert facts["encoding"] == "UTF8"
        assert facts["settings"]["TimeZone"] == "UTC"
        assert ["backupd_zoo", "1.0", "backupd_zoo"] in facts["extensions"]
        assert facts["database"]["name"] == every_type.name
        assert facts["database"]["owner"] == "postgres"
        assert facts["database"]["collate"] == "C.UTF-8"
        if every_type.server.major == 15:
            assert [row[:3] for row in facts["collations"]] == [["zoo", "blind", "i"], ["zoo", "german", "i"]]
            assert all(row[3] for row in facts["collations"])

    def test_materialized_views_come_in_the_order_to_refresh(self, every_type: Database) -> None:
        """Populated ones only, each after those it reads, also through plain views."""
        with held(every_type) as source:
            assert read_facts(source.connection)["refresh"] == [
                ["zoo", "z_first"], ["zoo", "a_second"], ["zoo", "m_third"],
            ]  # fmt: skip

    def test_sequences_in_every_state(self, every_type: Database) -> None:
        """Value and whether it was called, of identity columns, extensions' and odd names, too."""
        with held(every_type) as source, connect(Source(every_type.conninfo)) as free:
            values = {
                (schema, name): (value, called)
                for schema, name, value, called in read_sequences(source.connection, free)
            }
        assert values["zoo", "never_called"] == (42, False)
        assert values["zoo", "set_uncalled"] == (77, False)
        assert values["zoo", "at_end"] == (3, True)
        assert values["zoo", "generated_id_seq"] == (20, True)
        assert values["zoo", "by_default_id_seq"] == (2, True)
        assert values["Zoo.Capital", "Se quence"] == (-1, True)
        assert values["backupd_zoo", "counter"] == (5, True)
        assert len(values) == len(every_type.sql("SELECT 1 FROM pg_sequences"))

    def test_tenants_get_what_names_their_schemas(self) -> None:
        """Sequences and views of a tenant's schema are told in its own facts, with their place in the order of all."""
        tenancy = Tenancy(TenancyKind.SCHEMA, schema_pattern=r"t_(?P<tenant>\w+)")
        facts = {
            "encoding": "UTF8",
            "collations": [["t_a", "c", "i", "1"]],
            "refresh": [["t_a", "m"], ["public", "n"], ["t_b", "o"]],
        }
        sequences = [("public", "s", 1, True), ("t_b", "s", 2, False)]
        assert divide_facts(facts, sequences, NamePatterns(tenancy, "app")) == {
            None: SourceFacts(
                {"encoding": "UTF8", "collations": [], "refresh": [["public", "n"]], "ranks": [1]}, (sequences[0],)
            ),
            "a": SourceFacts({"collations": [["t_a", "c", "i", "1"]], "refresh": [["t_a", "m"]], "ranks": [0]}),
            "b": SourceFacts({"refresh": [["t_b", "o"]], "ranks": [2]}, (sequences[1],)),
        }


class TestPrograms:
    def test_programs_are_of_the_servers_version_where_there_are_such(self, server: Server) -> None:
        """The same major version is preferred, an older one never taken."""
        version = server.major * 10000 + 1
        assert find_programs((), version).version[0] == server.major
        newest = Server(18, *(getattr(server, name) for name in ("bin", "folder", "port", "password")))
        assert newest.major == 18
        with pytest.raises(BackupdError, match="no client programs"):
            find_programs((server.bin,), 990000, search="")

    def test_nobody_sees_where_and_as_whom_they_connect(
        self, pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str], tmp_path: Path
    ) -> None:
        """Arguments and environment of a child hold no name of host, database or user, and no password."""
        role = make_role(pg17, "LOGIN PASSWORD 'marker-password'", name=unique("marker_role"))
        database = make_database(pg17, name=unique("marker db"))
        passfile = tmp_path / "pass"
        passfile.write_text(f"127.0.0.1:*:*:{role}:marker-password\n")
        passfile.chmod(0o600)
        source = Source(pg17.tcp(database.name, role), passfile=passfile)
        with connect(source) as connection:
            programs = find_programs((), connection.info.server_version)
            with client(programs, resolved(connection)) as started:
                child = subprocess.Popen(
                    started.command("psql", "-XAtq"), env=dict(started.environment),
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )  # fmt: skip
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write(b"SELECT current_database(), current_user;\n")
                child.stdin.flush()
                assert child.stdout.readline().decode().strip() == f"{database.name}|{role}"
                seen = b"".join(Path(f"/proc/{child.pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
                child.communicate()
        assert b"PGSERVICEFILE" in seen
        assert b"marker" not in seen
        assert b"127.0.0.1" not in seen
        assert quoted(role) == f'"{role}"'
