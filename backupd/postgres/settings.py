"""The session settings of every reading and loading connection, so that text means the same on every server.

They are pg_dump's, plus those that make the text of a value independent of the database's own defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

TEXT: dict[str, str] = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "standard_conforming_strings": "on",
}
"""Settings that decide how values are written and must be read back; stored in `facts` (FORMAT.md §7)."""


def as_written(facts: Mapping[str, str] | None) -> dict[str, str]:
    """Return what a session that loads rows takes of the settings in a snapshot's facts.

    That is only what decides how text is read: it is not the snapshot's to set anything else. The encoding of rows is
    given with each COPY: names are in the session's.
    """
    own = TEXT.keys() - {"client_encoding"}
    return {name: value for name, value in (facts or {}).items() if name in own}


_CONVERTED = frozenset({"UTF8", "LATIN1"})
"""Encodings of servers in which every text has one in UTF-8, and comes back from it."""


def rows_encoding(server: str) -> str:
    """Return the encoding in which rows are read from a database in the encoding `server`, by PostgreSQL's names.

    Others than these have bytes that stand for nothing, or for nothing in UTF-8, and PostgreSQL refuses to convert
    them: rows are read as they lie there.
    """
    return "UTF8" if server in _CONVERTED else server


def copied(sql: str, encoding: str) -> str:
    """Return a COPY statement without options for rows in this encoding; names in it are in that of the session."""
    return sql if encoding == "UTF8" else f"{sql} WITH (ENCODING '{encoding}')"


_READING: dict[str, str] = {
    # A standby refuses every statement of a role whose default is serializable.
    "default_transaction_isolation": "read committed",
    **TEXT,
    "search_path": "",
    "row_security": "off",
    "synchronize_seqscans": "off",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

_ORDER: dict[str, str] = {
    "max_parallel_workers_per_gather": "0",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "jit": "off",
    "work_mem": "128MB",
    "hash_mem_multiplier": "2",
}
"""Settings by which rows come in the order of the outer table's heap, as they always do from nested loops over a
sequential scan, and from a hash join whose hashed side fits into memory (see `ALLOW_HASH_JOIN`).

`work_mem` is for remembering the targets of foreign keys, in twice as much where they are hashed: with the usual 4 MB,
following two keys from a million rows took 5.3 s of the server's CPU instead of 2.1; plain COPY takes 0.5 (measured on
15 to 18).
"""

ALLOW_HASH_JOIN = "SET enable_hashjoin = on"
FORBID_HASH_JOIN = "SET enable_hashjoin = off"
"""Statements around the reading of one table whose foreign key's targets fit into memory: following a key from 927,000
rows to 398,000 then takes 0.7 s of the server's CPU instead of 1.7 (measured on 15)."""

_SESSION = ("role", "session_authorization", "transaction_isolation", "transaction_read_only")
"""Settings of the session that nobody gives it here, and that must stay as they are while it reads."""

SHORT_WAIT = 1.0
"""Seconds that a connection waits for a lock while another one of ours holds some.

Behind a migration that waits for our locks, a longer wait would be a wait for ourselves, which PostgreSQL cannot see.
It is also PostgreSQL's default `deadlock_timeout`: a wait that ends by then is no deadlock to anybody.
"""


def short_wait_settings(version: int) -> dict[str, str]:
    """Return `dump_settings` with short waits for locks, for use while another connection of ours holds locks."""
    return {**dump_settings(version), "lock_timeout": milliseconds(SHORT_WAIT)}


def milliseconds(seconds: float) -> str:
    """Return a duration as a setting's value; at least a millisecond, because zero would mean no limit."""
    return f"{max(1, round(seconds * 1000))}ms"


def dump_settings(version: int) -> dict[str, str]:
    """Return the settings of a connection that dumps from a server of this `server_version_num`."""
    return {**_READING, **_ORDER, **_of_version(version)}


def without_limits(version: int) -> str:
    """Return the options of a session that no limit of time ends which a database or role was given by its owner.

    They hold from the first moment on, where a program sets the same only after queries of its own.
    """
    limits = {name: value for name, value in dump_settings(version).items() if name.endswith("_timeout")}
    return " ".join(f"-c {name}={value}" for name, value in limits.items())


def _of_version(version: int) -> dict[str, str]:
    settings = {}
    if version >= 140000:
        settings["idle_session_timeout"] = "0"
    if version >= 170000:
        settings["transaction_timeout"] = "0"
    if _restricts_relations(version):
        settings["restrict_nonsystem_relation_kind"] = "view, foreign-table"
    return settings


def _restricts_relations(version: int) -> bool:
    """Check whether the server has the guard against CVE-2024-7348."""
    major, minor = divmod(version, 10000)
    return minor >= {13: 16, 14: 13, 15: 8, 16: 4}.get(major, 0) and major >= 13


def read_back() -> str:
    """Return a query for what the settings are now, as one text, and whose rights the session has.

    The text is the same as long as nobody changes the session, which the code of a table's owner could do.
    """
    names = sorted({*_READING, *_ORDER, *_SESSION, "idle_session_timeout", "transaction_timeout"})
    listed = ", ".join(f"'{name}'" for name in names)
    shown = "pg_catalog.concat(pg_catalog.current_setting(name, true), ';'), '' ORDER BY name"
    return f"SELECT pg_catalog.string_agg({shown}) FROM pg_catalog.unnest(ARRAY[{listed}]) AS one(name)"  # noqa: S608  # constants only


def statements(settings: dict[str, str]) -> str:
    """Return the settings as SQL statements."""
    return "".join(f"SET {name} = '{value}';\n" for name, value in settings.items())
