"""A table whose rows a backup reads through the application's own code: slow code, or code that fails.

The tenant of a row of `saga` lies behind a foreign key, and the operator that compares its keys is the application's.
It acts for connections of backupd only, so that rows are inserted, and migrations done, at the usual speed.
"""

from __future__ import annotations

from dataclasses import replace

from backupd.model.tenancy import TableRule, Tenancy, TenancyKind

SLEEP = "PERFORM pg_catalog.pg_sleep(30)"
"""PostgreSQL says nothing for half a minute; `pg_stat_activity` shows the wait event PgSleep meanwhile."""
_KEY = "saga_realm"
_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
BY_KEY = replace(_COLUMN, rules=(TableRule(("public.*saga",), path=(_KEY,)),))
"""Every table has the column `tenant`, except for the saga."""
RULE = f"""
[[regions.be.databases.app.tables]]
match = ["public.*saga"]
path = ["{_KEY}"]
"""
"""The rule of `BY_KEY` in the configuration of the tests' nodes, to follow their line about tenancy."""


def saga_table(act: str = SLEEP, *, name: str = "saga", word: str = "once") -> tuple[str, ...]:
    """Statements that make the table, with the key `word` in its one row.

    `act` is a statement of PL/pgSQL, in which `$1` is a key. Only the operator acts, and new connections to
    the database use no index: code that an index calls cannot be interrupted, as the index has locked its page.
    """
    return (
        (
            "DO $$ BEGIN EXECUTE pg_catalog.format("
            "'ALTER DATABASE %I SET enable_indexscan = off', pg_catalog.current_database()); END $$"
        ),
        "CREATE TYPE token AS (word text)",
        (
            "CREATE FUNCTION compare(token, token) RETURNS int LANGUAGE sql AS "
            "$$ SELECT pg_catalog.bttextcmp($1.word, $2.word) $$"
        ),
        (
            "CREATE FUNCTION same(token, token) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN "
            f"IF pg_catalog.current_setting('application_name') LIKE 'backupd%' THEN {act}; END IF; "
            "RETURN $1.word = $2.word; END $$"
        ),
        "CREATE OPERATOR === (LEFTARG = token, RIGHTARG = token, FUNCTION = same, COMMUTATOR = ===)",
        (
            "CREATE OPERATOR CLASS token_ops FOR TYPE token USING btree AS "
            "OPERATOR 3 ===, FUNCTION 1 compare(token, token)"
        ),
        "CREATE TABLE realm (k token NOT NULL, tenant int NOT NULL)",
        "CREATE UNIQUE INDEX ON realm (k token_ops)",
        f"INSERT INTO realm VALUES (ROW('{word}'), 1)",
        f'CREATE TABLE "{name}" (k token NOT NULL CONSTRAINT {_KEY} REFERENCES realm (k), pad text NOT NULL)',
        f"INSERT INTO \"{name}\" VALUES (ROW('{word}'), '')",
    )
