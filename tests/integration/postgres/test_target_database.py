"""The new database itself on real servers: its properties, its name, the roles it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from doubles.servers.postgres import Server, quoted
from fix_postgres import Database, unique
from psycopg.conninfo import make_conninfo

from backupd.errors import RefusedError, SourceError
from backupd.postgres.connect import Source
from backupd.postgres.schema.statements import temporary_name
from backupd.postgres.target import finish, session
from backupd.postgres.target.database import check_name, create, drop, leftovers, publish
from backupd.postgres.target.pg_restore import DatabaseSql

_PROPERTIES = """
SELECT pg_get_userbyid(datdba), datconnlimit, shobj_description(oid, 'pg_database'),
  has_database_privilege('{}', oid, 'CONNECT'), has_database_privilege('public', oid, 'TEMP'),
  (SELECT array_agg(setconfig::text ORDER BY setrole DESC) FROM pg_db_role_setting WHERE setdatabase = d.oid)
FROM pg_database d WHERE datname = current_database()
"""
_SCRIPT = """
--
-- PostgreSQL database cluster dump
--

\\restrict abc

SET default_transaction_read_only = off;
CREATE ROLE {there};
ALTER ROLE {there} WITH SUPERUSER NOLOGIN;
CREATE ROLE {new};
ALTER ROLE {new} WITH NOSUPERUSER CREATEDB LOGIN PASSWORD 'SCRAM-SHA-256$4096:c2FsdA==$a2V5:a2V5';
COMMENT ON ROLE {new} IS 'it''s; {there}';
CREATE ROLE {member};
ALTER ROLE {member} WITH NOLOGIN;
ALTER ROLE {member} SET search_path TO 'a b', c;
GRANT {new} TO {member} WITH ADMIN OPTION GRANTED BY "nobody here";
GRANT {there} TO {new} GRANTED BY {there};
CREATE TABLESPACE elsewhere OWNER {new} LOCATION '/nowhere';

\\unrestrict abc
"""


def source_of(database: Database) -> Source:
    return Source(database.server.conninfo("postgres"), client_folders=(database.server.bin,))


@pytest.fixture
def odd_database(server: Server, make_role: Callable[..., str]) -> Iterator[Database]:
    """A name that needs quoting, for properties that do too; gone before the roles are."""
    database = Database(server, unique('odd "name" DATABASE; x'))
    yield database
    database.server.drop_database(database.name)


def test_properties_are_rewritten_to_the_new_name(odd_database: Database, make_role: Callable[..., str]) -> None:
    """Whatever stands in quotes and strings, only the name of the database is replaced."""
    server, old = odd_database.server, quoted(unique('old "db" DATABASE'))
    owner, other = make_role(server, name=unique("owner DATABASE")), make_role(server, name=unique("database"))
    sql = DatabaseSql(
        create=f"CREATE DATABASE {old} WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C';\n",
        owner=owner,
        properties=(
            f"COMMENT ON DATABASE {old} IS 'it''s DATABASE x; \\';\n",
            f"REVOKE ALL ON DATABASE {old} FROM PUBLIC;\nGRANT CONNECT ON DATABASE {old} TO {quoted(other)};\n",
            f"ALTER DATABASE {old} CONNECTION LIMIT = 7;\n",
            f"ALTER DATABASE {old} SET search_path TO 'a b', 'C; DATABASE x';\n",
            f"ALTER ROLE {other} IN DATABASE {old} SET application_name TO E'y; ALTER DATABASE z''\\\\';\n",
        ),
    )
    temporary = temporary_name(unique(""))
    with session.connect(source_of(odd_database), "postgres") as connection:
        create(connection, sql, temporary)
        publish(connection, sql, temporary, odd_database.name)
    settings = ['{"application_name=y; ALTER DATABASE z\'\\\\"}', '{"search_path=\\"a b\\", \\"C; DATABASE x\\""}']
    found = server.sql(odd_database.name, _PROPERTIES.format(other))
    assert found == [(owner, 7, "it's DATABASE x; \\", True, False, settings)]


def test_the_owner_comes_first(odd_database: Database, make_role: Callable[..., str]) -> None:
    """A member of the owner who is no superuser makes the owner's objects in it, as with pg_restore."""
    server = odd_database.server
    owner, member = make_role(server), make_role(server, "LOGIN CREATEDB")
    server.sql("postgres", f"GRANT {quoted(owner)} TO {quoted(member)}")
    sql = DatabaseSql("CREATE DATABASE x WITH TEMPLATE = template0;\n", owner, ())
    source = Source(make_conninfo(server.conninfo("postgres"), user=member))
    temporary = temporary_name(unique(""))
    with session.connect(source, "postgres") as connection:
        create(connection, sql, temporary)
        with session.connect(source, temporary) as inside:
            inside.execute("CREATE TABLE public.t (id int)")
            inside.execute(f"ALTER TABLE public.t OWNER TO {quoted(owner)}".encode())
        publish(connection, sql, temporary, odd_database.name)
    assert server.sql(odd_database.name, "SELECT tableowner::text FROM pg_tables WHERE tablename = 't'") == [(owner,)]


def test_a_database_with_a_subscription_is_dropped(server: Server) -> None:
    """PostgreSQL does not drop it, and a subscription that is dropped takes the publisher's slot along if it can."""
    name = unique("subscribed")
    server.create_database(name, "template0", "")
    server.sql(
        name,
        "CREATE SUBSCRIPTION s CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false)",
        "ALTER SUBSCRIPTION s SET (slot_name = 'theirs')",
    )
    assert drop(Source(server.conninfo("postgres")), name)
    assert server.sql("postgres", f"SELECT FROM pg_database WHERE datname = '{name}'") == []


def test_a_user_who_may_not_make_databases_is_named_as_the_cause(
    database: Database, make_role: Callable[..., str]
) -> None:
    """No locale and no tablespace is missing then."""
    sql = DatabaseSql(create="CREATE DATABASE x WITH TEMPLATE = template0;\n", owner="", properties=())
    role = make_role(database.server, "LOGIN")
    source = Source(make_conninfo(database.server.conninfo("postgres"), user=role))
    with session.connect(source, "postgres") as connection, pytest.raises(SourceError) as caught:
        create(connection, sql, temporary_name(unique("")))
    assert "CREATEDB" in caught.value.hint
    assert "locale" not in caught.value.hint


def test_a_name_that_is_taken_or_too_long_is_refused(database: Database) -> None:
    """Nothing that exists is restored over, and no name is cut short in silence."""
    with session.connect(source_of(database), "postgres") as connection:
        for name in (database.name, "", "é" * 32):
            with pytest.raises(RefusedError):
                check_name(connection, name)
        check_name(connection, "é" * 31)


def test_databases_left_behind_are_found_unless_in_use(server: Server, make_database: Callable[..., Database]) -> None:
    """An interrupted restore is recognised by its name, one under way is left alone."""
    idle = make_database(server, name=temporary_name(unique("")))
    busy = make_database(server, name=temporary_name(unique("")))
    with busy.server.connect(busy.name), session.connect(source_of(idle), "postgres") as connection:
        found = leftovers(connection)
    assert idle.name in found
    assert busy.name not in found


def test_publishing_waits_for_those_who_are_connected(server: Server, make_database: Callable[..., Database]) -> None:
    """A monitor that looks into the new database for a moment does not cost the restore."""
    temporary, final = make_database(server, name=temporary_name(unique(""))), unique("published")
    sql = DatabaseSql("", "", ())
    with ThreadPoolExecutor(1) as pool, session.connect(source_of(temporary), "postgres") as connection:
        watcher = server.connect(temporary.name)
        publishing = pool.submit(publish, connection, sql, temporary.name, final)
        with pytest.raises(TimeoutError):
            publishing.result(timeout=1.0)
        watcher.close()
        publishing.result(timeout=20)
    server.drop_database(final)


def test_missing_roles_are_made_and_others_left_alone(server: Server, make_role: Callable[..., str]) -> None:
    """New roles come with attributes, settings, comments and memberships; those that exist are not touched."""
    there, new, member = make_role(server, "LOGIN"), unique('new "role"'), unique("member")
    script = _SCRIPT.format(there=quoted(there), new=quoted(new), member=quoted(member))
    try:
        with session.connect(Source(server.conninfo()), "postgres") as connection:
            assert finish.create_roles(connection, [script]) == 2
            assert finish.create_roles(connection, [script]) == 0
        found = server.sql(
            "postgres",
            "SELECT rolname, rolsuper, rolcreatedb, rolcanlogin, rolconfig, shobj_description(oid, 'pg_authid') "
            f"FROM pg_roles WHERE rolname IN ('{there}', '{new}', '{member}')",
        )
        assert {row[0]: row[1:] for row in found} == {
            there: (False, False, True, None, None),
            new: (False, True, True, None, f"it's; {quoted(there)}"),
            member: (False, False, False, ['search_path="a b", c'], None),
        }
        memberships = server.sql(
            "postgres",
            "SELECT r.rolname, m.rolname, admin_option FROM pg_auth_members JOIN pg_roles r ON r.oid = roleid "
            f"JOIN pg_roles m ON m.oid = member WHERE m.rolname IN ('{member}', '{new}')",
        )
        assert sorted(memberships) == sorted([(new, member, True), (there, new, False)])
    finally:
        server.sql("postgres", f"DROP ROLE IF EXISTS {quoted(member)}, {quoted(new)}")


def test_roles_that_only_a_superuser_may_make_say_so(pg18: Server, make_role: Callable[..., str]) -> None:
    """With what to do about it, and no role's name; those that could be made are not left behind."""
    maker, tame, strong = make_role(pg18, "LOGIN CREATEROLE"), unique("tame"), unique("strong")
    script = f"CREATE ROLE {tame};\nCREATE ROLE {strong};\nALTER ROLE {strong} WITH SUPERUSER;\n"
    with (
        session.connect(Source(pg18.conninfo(user=maker)), "postgres") as connection,
        pytest.raises(SourceError, match=r"a role cannot be made as it was: .*42501") as caught,
    ):
        finish.create_roles(connection, [script])
    assert "Have a superuser of the target make the roles" in caught.value.hint
    assert tame not in f"{caught.value.message} {caught.value.hint}"
    assert pg18.sql("postgres", f"SELECT FROM pg_roles WHERE rolname IN ('{tame}', '{strong}')") == []
