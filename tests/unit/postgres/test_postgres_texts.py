"""Texts for PostgreSQL are written, and its own are understood, without a server."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import (
    ConfigError,
    ProgramKilledError,
    SourceAuthError,
    SourceBusyError,
    SourceError,
    SourceGoneError,
)
from backupd.model.inventory import ForeignKey, Table, TableKind, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Shared, Step, Tenant
from backupd.postgres import settings
from backupd.postgres.client_programs import Client, Programs, client, failure
from backupd.postgres.connect import identifier, literal
from backupd.postgres.failures import translate
from backupd.postgres.schema import dump
from backupd.postgres.schema.archive import ArchiveReader
from backupd.postgres.schema.statements import split_statements, words_in
from backupd.postgres.source.select import BlockRange, select_rows, select_stretch

KEY = ForeignKey("k", ("a b", "c"), TableName("p", "q"), ("x", "y"), ('OPERATOR("s".=)', 'OPERATOR("s".~)'), False)
TABLE = Table(TableName('sch"ema', "t"), 1, TableKind.TABLE, ("a b", "c"), (KEY,))


PLAIN = 'COPY "sch""ema"."t" ("a b", "c") TO STDOUT'
RANGED = (
    """COPY (SELECT t."a b", t."c" FROM ONLY "sch""ema"."t" AS t WHERE t.ctid >= '(8,0)'::pg_catalog.tid """
    """AND t.ctid < '(16,0)'::pg_catalog.tid) TO STDOUT"""
)
BY_COLUMN = 'COPY (SELECT t."c", t."a b", t."c" FROM ONLY "sch""ema"."t" AS t) TO STDOUT'
BY_PATH = (
    """COPY (SELECT p2."org", t."a b", t."c" FROM ONLY "sch""ema"."t" AS t"""
    """ LEFT JOIN ONLY "p"."q" AS p1 ON p1."x" OPERATOR("s".=) t."a b" AND p1."y" OPERATOR("s".~) t."c\""""
    """ LEFT JOIN "p"."q" AS p2 ON p2."x" OPERATOR("s".=) p1."a b" AND p2."y" OPERATOR("s".~) p1."c\""""
    """ WHERE t.ctid >= '(8,0)'::pg_catalog.tid) TO STDOUT"""
)


@pytest.mark.parametrize(
    ("route", "blocks", "sql"),
    [
        (Shared(), None, PLAIN),
        (Tenant("x"), None, PLAIN),
        (Shared(), BlockRange(0, None), PLAIN),
        (Tenant("x"), BlockRange(8, 16), RANGED),
        (Column("c"), None, BY_COLUMN),
        (ForeignKeyPath((Step(KEY, whole=False), Step(KEY, whole=True)), "org"), BlockRange(8, None), BY_PATH),
    ],
)
def test_statements_are_these(
    route: Column | ForeignKeyPath | Shared | Tenant, blocks: BlockRange | None, sql: str
) -> None:
    """Plain COPY where it will do; else a SELECT whose every name is qualified and quoted."""
    selection = select_rows(TABLE, route, blocks)
    assert selection.sql == sql
    assert selection.routed == isinstance(route, Column | ForeignKeyPath)


def test_rows_of_a_stretch_begin_with_the_number_of_their_extent() -> None:
    """The server compares where each lies: it knows best, and does not always give them in that order."""
    route = ForeignKeyPath((Step(KEY, whole=False),), "org")
    sql = select_stretch(TABLE, route, [BlockRange(0, 8), BlockRange(16, 24), BlockRange(24, None)])
    assert sql == (
        """COPY (SELECT pg_catalog.width_bucket(t.ctid, '{"(16,0)","(24,0)"}'::pg_catalog.tid[]), """
        """p1."org", t."a b", t."c" FROM ("""
        """SELECT t.ctid, t."a b", t."c" FROM ONLY "sch""ema"."t" AS t WHERE t.ctid < '(8,0)'::pg_catalog.tid"""
        """ UNION ALL SELECT t.ctid, t."a b", t."c" FROM ONLY "sch""ema"."t" AS t"""
        """ WHERE t.ctid >= '(16,0)'::pg_catalog.tid AND t.ctid < '(24,0)'::pg_catalog.tid"""
        """ UNION ALL SELECT t.ctid, t."a b", t."c" FROM ONLY "sch""ema"."t" AS t"""
        """ WHERE t.ctid >= '(24,0)'::pg_catalog.tid) AS t"""
        """ LEFT JOIN ONLY "p"."q" AS p1 ON p1."x" OPERATOR("s".=) t."a b" AND p1."y" OPERATOR("s".~) t."c\""""
        """) TO STDOUT"""
    )


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_quoted_names_read_back_as_one_word(name: str) -> None:
    """Whatever a name holds, quoting makes it a single name, and a literal a single string."""
    words = list(words_in(f"GRANT x TO {identifier(name)} {literal(name)} ;"))
    assert [word.text for word in words if not word.key] == ["x", name]


@given(st.lists(st.text(alphabet="ab;'\"\\$-\n E", max_size=12), max_size=5))
def test_statements_are_not_cut_inside_strings(texts: list[str]) -> None:
    """Semicolons in strings and names end no statement."""
    statements = [f"COMMENT ON ROLE {identifier(text)} IS {literal(text)};" for text in texts]
    assert list(split_statements("\n".join(f"-- note;\n{statement}" for statement in statements))) == statements


def test_settings_fit_the_version() -> None:
    """Only settings that the version knows, and the guard against CVE-2024-7348 from the minor version that has it."""
    assert "transaction_timeout" not in settings.dump_settings(160009)
    assert settings.dump_settings(170000)["transaction_timeout"] == "0"
    versions = (130015, 130016, 150007, 150008, 160003, 160004, 170000, 180000)
    assert ["restrict_nonsystem_relation_kind" in settings.dump_settings(version) for version in versions] == [
        False,
        True,
        False,
        True,
        False,
        True,
        True,
        True,
    ]
    assert "SET search_path = '';\n" in settings.statements(settings.dump_settings(170000))


@pytest.mark.parametrize(
    ("words", "family", "meaning"),
    [
        (b"pg_dump: error: query failed: ERROR:  permission denied for table marker", SourceError, "lacks a privilege"),
        (b'pg_dump: error: could not obtain lock on relation "marker"', SourceBusyError, "a lock was not to be had"),
        (b"ERROR:  canceling statement due to lock timeout", SourceBusyError, "in time"),
        (b"ERROR:  canceling statement due to statement timeout", SourceBusyError, "in time"),
        (b"ERROR:  could not open relation with OID 16390", SourceBusyError, "dropped"),
        (b'query to obtain definition of view "marker" returned no data', SourceBusyError, "dropped"),
        (b"ERROR:  cache lookup failed for relation 16390", SourceBusyError, "dropped"),
        (b"ERROR:  invalid snapshot identifier", SourceGoneError, "snapshot is gone"),
        (b"aborting because of server version mismatch", SourceError, "older than the server"),
        (b"server closed the connection unexpectedly: marker", SourceGoneError, "broke"),
        (b"something about marker \xff", SourceError, "exit status 3"),
    ],
)
def test_programs_words_are_understood_but_not_repeated(words: bytes, family: type, meaning: str) -> None:
    """The family and a fixed sentence come out, never the words, which name things."""
    error = failure("pg_dump", 3, words)
    assert type(error) is family
    assert meaning in error.message
    assert "marker" not in error.message + error.hint


@pytest.mark.parametrize("value", [" x", "x ", "a\nb", "x" * 1001])
def test_what_a_service_file_cannot_hold_is_refused(value: str) -> None:
    """Values that libpq would read differently are an error, not a surprise."""
    from pathlib import Path as Folder

    with pytest.raises(ConfigError, match="'dbname' cannot"), client(Programs(Folder("/"), (17, 1)), {"dbname": value}):
        pass
    newer = {"sslnegotiation": "direct"}
    with pytest.raises(ConfigError, match="not known"), client(Programs(Folder("/"), (16, 1)), newer):
        pass


def test_every_class_of_code_has_its_family() -> None:
    """Connection trouble and conflicts can be tried again, refusals cannot."""
    from psycopg import errors as pg

    cases = {
        pg.AdminShutdown: SourceGoneError,
        pg.ConnectionFailure: SourceGoneError,
        pg.LockNotAvailable: SourceBusyError,
        pg.SerializationFailure: SourceBusyError,
        pg.UndefinedTable: SourceError,
        pg.OutOfMemory: SourceBusyError,
        pg.InvalidPassword: SourceAuthError,
    }
    for raised, family in cases.items():
        error = translate(raised("marker"))
        assert type(error) is family
        assert "marker" not in error.message + error.hint


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ('connection to server at "10.0.0.1", port 5432 failed: Connection refused', "nothing listens there"),
        ('connection to server on socket "/run/x/.s.PGSQL.1" failed: No such file or directory', "there is no socket"),
        ('could not translate host name "db9" to address: Name or service not known', "its name is unknown"),
        ("connection timeout expired", "it does not answer"),
        ("failed: server does not support SSL, but SSL was required", "it offers no TLS"),
        ("failed: something new", "or the connection broke"),
    ],
)
def test_a_server_that_is_not_reached_is_named_with_the_reason(text: str, meaning: str) -> None:
    """In our words and with what to do: a name in libpq's may be a tenant's."""
    error = translate(psycopg.OperationalError(text), "db.example, port 5432")
    assert isinstance(error, SourceGoneError)
    assert error.message.startswith("cannot reach PostgreSQL at db.example, port 5432")
    assert meaning in error.message
    assert error.hint
    assert "db9" not in error.message + error.hint


@pytest.mark.parametrize(
    "text",
    [
        'could not access file "$libdir/plugins/zebra": No such file or directory',
        "terminating connection due to idle-session timeout",
        'invalid value for parameter "zebra"',
    ],
)
def test_a_server_that_ends_a_session_at_once_was_reached(text: str) -> None:
    """A database's owner can have it so by a setting: nobody is sent to look for sockets and firewalls."""
    error = translate(psycopg.OperationalError(f"connection failed: FATAL:  {text}"), "db.example, port 5432")
    assert error.message == "PostgreSQL at db.example, port 5432 ended the session as it began"
    assert "pg_db_role_setting" in error.hint
    assert "zebra" not in error.message + error.hint


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ('database "zebra" does not exist', "the database does not exist"),
        ('database "zebra" is not currently accepting connections', "the database takes no connections"),
        (
            'cannot connect to invalid database "zebra"\nHINT:  Use DROP DATABASE to drop invalid databases.',
            "dropping it was interrupted",
        ),
        (
            'permission denied for database "zebra"\nDETAIL:  User does not have CONNECT privilege.',
            "the role may not connect to the database",
        ),
        ('role "zebra" does not exist', "the role does not exist"),
        ('role "zebra" is not permitted to log in', "the role may not log in"),
        ('too many connections for database "zebra"', "no connection left"),
        ('too many connections for role "zebra"', "no connection left"),
        ("sorry, too many clients already", "no connection left"),
    ],
)
def test_a_server_that_refuses_a_connection_says_why(text: str, meaning: str) -> None:
    """Messages as 18.4 has them. They come without a code, and what is full now may have room later."""
    error = translate(psycopg.OperationalError(f"connection failed: FATAL:  {text}"), "db.example, port 5432")
    assert meaning in error.message
    assert isinstance(error, SourceBusyError) is (meaning == "no connection left")
    assert error.hint
    assert "zebra" not in error.message + error.hint


@pytest.mark.parametrize("said", ["", "PGDMP"])
def test_a_pg_dump_that_was_killed_is_tried_again(said: str) -> None:
    """What it had written by then ends too early, which is the least of it."""
    client = Client(Programs(Path("/nowhere"), (18, 6)), {"PATH": os.defpath})

    with pytest.raises(ProgramKilledError, match="pg_dump was ended by SIGKILL") as killed:
        dump._streamed(
            ["sh", "-c", f"printf '{said}'; kill -9 $$"], client, lambda read: list(ArchiveReader(read).entries())
        )
    assert killed.value.retryable
