"""Texts of the target side: pg_dump's statements renamed, pg_restore's words turned into ours."""

from __future__ import annotations

from typing import NoReturn, cast

import pytest
from psycopg.errors import InsufficientPrivilege

from backupd.errors import ExtensionRefusedError, ProgramKilledError, RefusedError, SourceError, SourceGoneError
from backupd.postgres.connect import Connection
from backupd.postgres.schema.statements import TEMPORARY, grouped, renamed, temporary_name, without_provider
from backupd.postgres.target import finish
from backupd.postgres.target.refusals import Failures, failure

SECRET = "hidden-marker"
NEW = '"n""w"'


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("CREATE DATABASE app WITH ENCODING = 'UTF8';\n", f"CREATE DATABASE {NEW} WITH ENCODING = 'UTF8';\n"),
        ('COMMENT ON DATABASE "a ""b"" DATABASE c" IS \'DATABASE d\';', f"COMMENT ON DATABASE {NEW} IS 'DATABASE d';"),
        ('GRANT CONNECT ON DATABASE app TO "DATABASE x";', f'GRANT CONNECT ON DATABASE {NEW} TO "DATABASE x";'),
        (
            (
                "ALTER ROLE database IN DATABASE app SET a TO E'\\'; ALTER DATABASE app';\n"
                "ALTER DATABASE app SET b TO 'app';"
            ),
            (
                f"ALTER ROLE database IN DATABASE {NEW} SET a TO E'\\'; ALTER DATABASE app';\n"
                f"ALTER DATABASE {NEW} SET b TO 'app';"
            ),
        ),
        ("ALTER DATABASE app;", f"ALTER DATABASE {NEW};"),
    ],
)
def test_only_the_database_is_renamed(said: str, written: str) -> None:
    """Names and strings that look like the statement's own words stay."""
    assert renamed(said, 'n"w') == written


def test_a_database_under_way_is_known_by_its_name() -> None:
    """Whoever cleans up looks for this beginning."""
    assert temporary_name("0a0b") == f"{TEMPORARY}0a0b"


def test_statements_of_another_owner_stay_together() -> None:
    """From the one that sets it to the one that sets it back; one that is never set back ends with the text."""
    begin, end = "SET SESSION AUTHORIZATION bob;", "RESET SESSION AUTHORIZATION;"
    said = ["GRANT a TO b;", begin, "GRANT c TO d;", end, "GRANT e TO f;", begin, "GRANT g TO h;"]
    assert list(grouped(iter(said))) == [
        "GRANT a TO b;",
        f"{begin}\nGRANT c TO d;\n{end}",
        "GRANT e TO f;",
        f"{begin}\nGRANT g TO h;",
    ]


def test_only_libc_as_the_provider_is_left_out() -> None:
    """Not where a name or a string says the same, and not another provider, which an old server has to refuse."""
    said = "CREATE DATABASE app WITH ENCODING = 'UTF8' LOCALE_PROVIDER = {} LOCALE = 'x LOCALE_PROVIDER = libc';"
    assert without_provider(said.format("libc")) == said.replace(" LOCALE_PROVIDER = {}", "")
    assert without_provider(said.format("icu")) == said.format("icu")


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (f'insert or update on table "{SECRET}" violates foreign key constraint "{SECRET}"', "23503"),
        (f'could not create unique index "{SECRET}"\nDETAIL:  Key (a)=({SECRET}) is duplicated.', "23505"),
        (f'check constraint "{SECRET}" of relation "{SECRET}" is violated by some row', "23514"),
        (f'role "{SECRET}" does not exist', "a role does not exist"),
        (f'extension "{SECRET}" is not available', "an extension is not installed"),
        (f"could not extend file: No space left on device {SECRET}", "disk full"),
        (f'permission denied for schema "{SECRET}"', "42501"),
        (f"{SECRET} said by a function of their own", "exit status 1"),
        (f'invalid input syntax for type integer: "{SECRET}"', "exit status 1"),
    ],
)
def test_pg_restore_is_understood_and_never_quoted(error: str, meaning: str) -> None:
    """The kind of command and what PostgreSQL's words mean, without a word of theirs."""
    words = f"pg_restore: error: could not execute query: ERROR:  {error}\nCommand was: ALTER TABLE ONLY {SECRET}\n"
    refused = failure("post-data", 1, words.encode())
    assert isinstance(refused, SourceError)
    assert meaning in refused.message
    assert "post-data failed at ALTER TABLE ONLY" in refused.message
    assert SECRET not in refused.message + refused.hint


def test_a_command_is_named_that_pg_dump_begins_with_an_empty_line() -> None:
    """As what a partition has otherwise of a trigger."""
    words = "ERROR:  trigger does not exist\nCommand was: \nALTER TABLE public.t ENABLE ALWAYS TRIGGER x;\n"
    assert "post-data failed at ALTER TABLE:" in failure("post-data", 1, words.encode()).message


def test_a_missing_role_names_the_option_that_makes_it() -> None:
    """Onto another server, nearly every restore needs it."""
    assert "--globals" in failure("pre-data", 1, b'pg_restore: error: ERROR:  role "x" does not exist\n').hint


@pytest.mark.parametrize(
    ("command", "error", "said"),
    [
        ("CREATE TABLE public.t (", 'function f(text) does not exist"', "--keep-going"),
        ("CREATE TABLE public.t (", "function f(text) does not exist", "search_path"),
        ("CREATE TABLE public.t (", "operator does not exist: x.hstore = x.hstore", "search_path"),
        ("CREATE INDEX i ON public.t", "said by a function", "--keep-going"),
        ("CREATE EXTENSION IF NOT EXISTS pg_cron WITH", "can only create extension in database x", "restore files"),
        ("CREATE EXTENSION IF NOT EXISTS pg_cron WITH", 'unrecognized configuration parameter "x"', "preload"),
    ],
)
def test_what_stops_a_restore_names_the_way_on(command: str, error: str, said: str) -> None:
    """The log of a server may be off, or somebody else's."""
    words = f"pg_restore: error: could not execute query: ERROR:  {error}\nCommand was: {command}\n"
    assert said in failure("pre-data", 1, words.encode()).hint


def test_a_role_that_the_target_refuses_names_the_ways_on() -> None:
    """They are ways at the target: what the role of backups lacks at the source is no help there."""

    class Refusing:
        def execute(self, _: object, *__: object) -> NoReturn:
            raise InsufficientPrivilege(f'permission denied to create role "{SECRET}"')

    with pytest.raises(SourceError) as caught:
        finish._run(cast("Connection", Refusing()), f"CREATE ROLE {SECRET} SUPERUSER")
    assert "--role-map" in caught.value.hint
    assert "config check" not in caught.value.hint
    assert SECRET not in caught.value.message


REFUSED = b"""pg_restore: from TOC entry 7; 1259 16384 INDEX i owner
pg_restore: error: could not execute query: ERROR:  function f(text) does not exist
Command was: CREATE INDEX i ON public.t
"""


@pytest.mark.parametrize(
    ("rest", "whole"),
    [
        (b"pg_restore: warning: errors ignored on restore: 1\n", True),
        (b"", False),  # killed meanwhile
        (b"pg_restore: error: a worker process died unexpectedly\n", False),
        (b"pg_restore: error: out of memory\n", False),
    ],
)
def test_what_is_left_out_is_known_only_where_pg_restore_came_to_its_end(*, rest: bytes, whole: bool) -> None:
    """Of one that was killed after a refusal, the entries that it never tried would be missing, and named nowhere."""
    failures = Failures()
    assert failures.take(REFUSED + rest) is whole
    assert set(failures.reasons) == ({7} if whole else set())


@pytest.mark.parametrize(
    ("status", "words"), [(-9, b""), (-9, REFUSED), (1, b"pg_restore: error: a worker process died unexpectedly")]
)
def test_a_pg_restore_that_was_killed_was_refused_nothing(status: int, words: bytes) -> None:
    """To leave out what is refused is no help: it can be tried again."""
    killed = failure("post-data", status, words)
    assert isinstance(killed, ProgramKilledError)
    assert killed.retryable
    assert killed.message.startswith("pg_restore during post-data was ended by ")
    assert "out-of-memory" in killed.hint
    assert "--keep-going" not in killed.hint


def test_a_job_of_pg_restore_that_dies_of_a_refusal_was_refused() -> None:
    """Where the first error ends it, a job tells that and dies, and its parent only sees it die."""
    refused = failure("post-data", 1, REFUSED + b"pg_restore: error: a worker process died unexpectedly\n")
    assert type(refused) is SourceError
    assert "an object that is needed does not exist" in refused.message


def test_an_extension_that_is_refused_is_told_apart() -> None:
    """It is named, which is never data: what it lacks is the server's, and says nothing of the backup."""
    words = 'pg_restore: error: ERROR:  could not access file "x"\nCommand was: CREATE EXTENSION IF NOT EXISTS hstore'
    refused = failure("pre-data", 1, words.encode())
    assert isinstance(refused, ExtensionRefusedError)
    assert "hstore" in refused.message
    assert "Install" in refused.hint


def test_a_server_that_goes_away_and_an_archive_too_new_are_told_apart() -> None:
    """The first may be tried again, the second needs other programs."""
    gone = failure("pre-data", 1, b"pg_restore: error: server closed the connection unexpectedly")
    newer = failure("pre-data", 1, b"pg_restore: error: unsupported version (1.16) in file header")
    assert isinstance(gone, SourceGoneError)
    assert isinstance(newer, RefusedError)
