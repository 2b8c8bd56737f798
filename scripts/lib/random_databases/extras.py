"""What a database has besides tables and rows, at random: each entry writes statements that a server may refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from lib.random_databases.tables import Table
from lib.random_databases.values import identifier, literal


class Extras:
    """Writes statements about tables that exist."""

    def __init__(self, random: Random, name: Callable[[], str], roles: Sequence[str], schemas: Sequence[str]) -> None:
        self.random, self._name, self.roles, self.schemas = random, name, roles, schemas

    def name(self) -> str:
        return identifier(self._name())

    def place(self) -> str:
        return f"{identifier(self.random.choice(self.schemas))}.{self.name()}"

    def role(self) -> str:
        return identifier(self.random.choice(self.roles))

    def text(self) -> str:
        return literal(
            self.random.choice(
                ("plain", "it's", "back\\slash", "two\nlines", "é😀", "%s $1 ; --", "\\.", "\\connect x")
            )
        )

    def of_types(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """Yield types of the database's own: the statement, the name, and texts of values."""
        enum, domain, pair, words = self.place(), self.place(), self.place(), self.place()
        yield (
            f"CREATE TYPE {enum} AS ENUM ('sad', 'it''s \"odd\"', E'back\\\\slash', '')",
            enum,
            ("sad", "back\\slash", ""),
        )
        yield f"CREATE DOMAIN {domain} AS int DEFAULT 3 CHECK (VALUE <> 13)", domain, ("1", "-5")
        yield (
            f"CREATE TYPE {pair} AS (a int, {self.name()} text, c {enum})",
            pair,
            ("(1,x,sad)", '(,"a ""q"" (b)",)', "(,,)"),
        )
        yield f'CREATE TYPE {words} AS RANGE (subtype = text, collation = "C")', words, ('[a,"b,c")', "empty", "(,)")
        array = f"{pair}[]"
        yield "", array, ('{"(1,x,sad)",NULL}', "{}")
        deep = self.place()
        yield f"CREATE DOMAIN {deep} AS {domain}[] CHECK (cardinality(VALUE) < 5)", deep, ("{1,2}", "{}")
        strict = self.place()
        yield f"CREATE DOMAIN {strict} AS {pair} CHECK ((VALUE).a IS NULL OR (VALUE).a > 0)", strict, ("(1,x,sad)",)
        yield f"ALTER TYPE {enum} ADD VALUE 'worse' BEFORE 'sad'", "", ()
        yield f"CREATE COLLATION {self.place()} (locale = 'C', provider = libc)", "", ()
        shell = self.place()
        yield f"CREATE TYPE {shell}", "", ()

    def before_rows(self, table: Table) -> Iterator[str]:
        """Yield what a row must obey, or what says how it is kept."""
        column = identifier(self.random.choice([name for name, _ in table.columns] or table.key or ("none",)))
        keyed = identifier(table.key[0]) if table.key else "none"
        yield from self._some(
            0.2,
            f"ALTER TABLE {table.place} ADD CONSTRAINT {self.name()} CHECK ({column} IS NULL OR"
            f" {column}::text <> 'never')",
            f"ALTER TABLE {table.place} ADD CHECK ({keyed} IS NOT NULL) NO INHERIT",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET STORAGE EXTERNAL",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET STORAGE MAIN",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET COMPRESSION lz4",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET COMPRESSION pglz",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET STATISTICS 77",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET (n_distinct = -0.5)",
            f"ALTER TABLE {table.place} SET (fillfactor = 50, autovacuum_enabled = off)",
            f"CREATE INDEX {self.name()} ON {table.place} ({column})",
            f"CREATE INDEX ON {table.place} USING hash ({column})",
            f"CREATE INDEX ON {table.place} USING gin ({column})",
            f"CREATE INDEX ON {table.place} USING gist ({column})",
            f"CREATE INDEX ON {table.place} USING brin ({keyed}) WITH (pages_per_range = 2)",
            f'CREATE INDEX {self.name()} ON {table.place} (({column}::text) COLLATE "C" DESC NULLS LAST)'
            f" WHERE {keyed} IS NOT NULL",
            f"CREATE UNIQUE INDEX {self.name()} ON {table.place} ({keyed}) INCLUDE ({column})",
            f"ALTER TABLE {table.place} ADD COLUMN {self.name()} text DEFAULT {self.text()}",
            f"ALTER TABLE {table.place} ADD EXCLUDE USING gist ({column} WITH &&)",
        )

    def after_rows(self, table: Table, others: Sequence[Table]) -> Iterator[str]:
        """Yield what would be in the way of rows, or does not mind them."""
        column = identifier(self.random.choice([name for name, _ in table.columns] or table.key or ("none",)))
        keyed = identifier(table.key[0]) if table.key else "none"
        function, trigger, other = self.place(), self.name(), self.random.choice(others)
        yield from self._some(
            0.15,
            f"ALTER TABLE {table.place} ADD CONSTRAINT {self.name()} CHECK ({column} IS NULL) NOT VALID",
            f"ALTER TABLE {table.place} ALTER COLUMN {column} SET DEFAULT NULL",
            f"ALTER TABLE {table.place} ADD COLUMN {self.name()} int DEFAULT 7 NOT NULL",
            *([f"ALTER TABLE {table.place} DROP COLUMN {column}"] if table.columns else []),
            f"ALTER TABLE {table.place} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY {self.name()} ON {table.place} FOR SELECT TO {self.role()}, PUBLIC USING"
            f" ({column} IS NULL)",
            f"CREATE POLICY {self.name()} ON {table.place} AS RESTRICTIVE TO {self.role()} USING (false)"
            f" WITH CHECK (false)",
            f"COMMENT ON TABLE {table.place} IS {self.text()}",
            f"COMMENT ON COLUMN {table.place}.{column} IS {self.text()}",
            f"ALTER TABLE {table.place} OWNER TO {self.role()}",
            f"GRANT SELECT, INSERT ON {table.place} TO {self.role()} WITH GRANT OPTION",
            f"GRANT SELECT ({column}), UPDATE ({keyed}) ON {table.place} TO {self.role()}",
            f"REVOKE ALL ON {table.place} FROM CURRENT_USER",
            f"CREATE RULE {self.name()} AS ON INSERT TO {table.place} DO INSTEAD NOTHING",
            f"CREATE RULE {self.name()} AS ON UPDATE TO {table.place} WHERE OLD.{keyed} IS NULL DO ALSO"
            f" NOTIFY {self.name()}",
            f"CREATE STATISTICS {self.place()} (ndistinct, dependencies) ON {column}, {keyed} FROM {table.place}",
            f"CREATE STATISTICS {self.place()} ON ({keyed}::text || 'x') FROM {table.place}",
            f"ALTER TABLE {table.place} REPLICA IDENTITY {self.random.choice(('FULL', 'NOTHING'))}",
            f"CREATE TABLE {self.place()} ({self.name()} int, CHECK (true)) INHERITS ({table.place})",
            f"CREATE VIEW {self.place()} AS SELECT * FROM {table.place}",
            f"CREATE VIEW {self.place()} WITH (security_barrier) AS SELECT {keyed}, count(*) AS"
            f" {self.name()} FROM {table.place} GROUP BY 1",
            f"CREATE VIEW {self.place()} AS SELECT a.{keyed} FROM {table.place} a JOIN {other.place} b ON"
            f" true WHERE a.{keyed} IS NOT NULL",
            f"CREATE MATERIALIZED VIEW {self.place()} AS SELECT {keyed}::text AS {self.name()} FROM {table.place}",
            f"CREATE MATERIALIZED VIEW {self.place()} AS SELECT count(*) AS n FROM {table.place} WITH NO DATA",
            f"CREATE TABLE {self.place()} AS TABLE {table.place} WITH NO DATA",
            f"CREATE TABLE {self.place()} (LIKE {table.place} INCLUDING ALL)",
            f"CREATE FUNCTION {self.place()}(r {table.place}) RETURNS bigint LANGUAGE sql STABLE AS $$"
            f" SELECT count(*) FROM {table.place.replace('$', '')} $$",
            f"CREATE FUNCTION {self.place()}() RETURNS bigint STABLE BEGIN ATOMIC SELECT count(*) FROM"
            f" {table.place}; END",
            f"CREATE FUNCTION {self.place()}() RETURNS SETOF {table.place} LANGUAGE plpgsql AS $$ BEGIN RETURN; END $$",
            f"CREATE PUBLICATION {self.name()} FOR TABLE {table.place} WHERE ({keyed} IS NOT NULL) WITH"
            f" (publish = 'insert')",
            f"CREATE PUBLICATION {self.name()} FOR TABLE {table.place} ({keyed})",
        )
        bodies = ("$$ BEGIN RETURN NULL; END $$", "$x$ BEGIN RAISE EXCEPTION $$never$$; END $x$")
        if self.random.random() < 0.2:
            yield (f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {self.random.choice(bodies)}")
            when = self.random.choice(("BEFORE", "AFTER"))
            yield (
                f"CREATE TRIGGER {trigger} {when} INSERT OR UPDATE ON {table.place} FOR EACH ROW EXECUTE"
                f" FUNCTION {function}({self.text()})"
            )
            way = self.random.choice(("ENABLE ALWAYS", "ENABLE REPLICA", "DISABLE", "ENABLE"))
            yield f"ALTER TABLE {table.place} {way} TRIGGER {trigger}"
            yield f"COMMENT ON TRIGGER {trigger} ON {table.place} IS {self.text()}"

    def of_database(self) -> Iterator[str]:
        """Yield what concerns no table, or all of them."""
        function, both, sequence, server = self.place(), self.place(), self.place(), self.name()
        schema = identifier(self.random.choice(self.schemas))
        numbers = (
            "START 42",
            "MINVALUE -5 START -5 INCREMENT 3 CYCLE",
            "AS smallint MAXVALUE 3",
            "CACHE 50",
            "INCREMENT -7",
        )
        watch, configuration, empty = self.place(), self.place(), self.place()
        yield f"CREATE FUNCTION {function}(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2'"
        yield f"CREATE SEQUENCE {sequence} {self.random.choice(numbers)}"
        yield from self._some(
            0.5,
            f"SELECT nextval({literal(sequence)}) FROM generate_series(1, 3)",
            f"ALTER SEQUENCE {sequence} OWNER TO {self.role()}",
            f"CREATE UNLOGGED SEQUENCE {self.place()}",
            f"CREATE AGGREGATE {self.place()}(int) (SFUNC = {function}, STYPE = int, INITCOND = '0')",
            f"CREATE OPERATOR {schema}.@#@ (LEFTARG = int, RIGHTARG = int, FUNCTION = {function})",
            f"CREATE OPERATOR CLASS {self.place()} FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2"
            f" >=, OPERATOR 3 =,"
            " OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int)",
            f"CREATE PROCEDURE {self.place()}(INOUT x int) LANGUAGE plpgsql AS $$ BEGIN x := x + 1; END $$",
            f"CREATE FUNCTION {both}(VARIADIC n int[] DEFAULT '{{}}') RETURNS TABLE (a int, b text)"
            f" LANGUAGE sql ROWS 7 COST 3"
            f" SET search_path = {schema}, pg_temp SET work_mem = '1MB' AS 'SELECT u, u::text FROM unnest(n) u'",
            f"REVOKE EXECUTE ON FUNCTION {function}(int, int) FROM PUBLIC",
            f"GRANT EXECUTE ON FUNCTION {function}(int, int) TO {self.role()}",
            f"COMMENT ON FUNCTION {function}(int, int) IS {self.text()}",
            f"COMMENT ON SCHEMA {schema} IS {self.text()}",
            f"GRANT USAGE, CREATE ON SCHEMA {schema} TO {self.role()} WITH GRANT OPTION",
            f"ALTER SCHEMA {schema} OWNER TO {self.role()}",
            f"ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO {self.role()}",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {self.role()} REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {self.role()} GRANT USAGE ON TYPES TO {self.role()}",
            f"CREATE TEXT SEARCH CONFIGURATION {configuration} (COPY = simple)",
            f"CREATE TEXT SEARCH DICTIONARY {self.place()} (TEMPLATE = simple, STOPWORDS = english)",
            f"CREATE CONVERSION {self.place()} FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
            f"CREATE FOREIGN DATA WRAPPER {server}",
            f"CREATE SERVER {server} FOREIGN DATA WRAPPER {server} OPTIONS (host {self.text()})",
            f"CREATE FOREIGN TABLE {self.place()} ({self.name()} int, {self.name()} text) SERVER {server}"
            f" OPTIONS (x {self.text()})",
            f"CREATE USER MAPPING FOR {self.role()} SERVER {server}",
            f"CREATE ACCESS METHOD {server} TYPE TABLE HANDLER heap_tableam_handler",
            f"CREATE TABLE {self.place()} ({self.name()} int) USING {server}",
            f"CREATE TABLE {empty} ()",
            f"INSERT INTO {empty} SELECT FROM generate_series(1, 4)",
            "CREATE CAST (int AS point) WITH INOUT AS ASSIGNMENT",
            f"CREATE RECURSIVE VIEW {self.place()} (n) AS SELECT 1 UNION ALL SELECT 2",
            f"CREATE PUBLICATION {self.name()} FOR ALL TABLES",
            f"CREATE PUBLICATION {self.name()} FOR TABLES IN SCHEMA {schema}",
            f"SELECT lo_from_bytea({self.random.randrange(1, 99999)}, '\\x00ff5c2e0a')",
            f"SELECT lo_from_bytea({self.random.randrange(1, 99999)}, decode(repeat('ab', 70000), 'hex'))",
            f"SELECT lo_create({self.random.randrange(1, 99999)})",
            f"CREATE FUNCTION {watch}() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1; END $$",
            f"CREATE EVENT TRIGGER {self.name()} ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE"
            f" FUNCTION {watch}()",
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''5MB''', current_database()); END $$",
            "DO $$ BEGIN EXECUTE format('COMMENT ON DATABASE %I IS ''a database''', current_database()); END $$",
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = pg_catalog, \"a b\"',"
            " current_database()); END $$",
            f"DO $$ BEGIN EXECUTE format('ALTER ROLE %I IN DATABASE %I SET statement_timeout = 7',"
            f" {literal(self.roles[0])}, current_database()); END $$",
            f"DO $$ BEGIN EXECUTE format('GRANT CREATE, TEMP ON DATABASE %I TO %I', current_database(),"
            f" {literal(self.roles[0])}); END $$",
            "DROP SCHEMA public",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
            f"COMMENT ON SCHEMA public IS {self.text()}",
        )

    def _some(self, of: float, *statements: str) -> Iterator[str]:
        yield from (statement for statement in statements if self.random.random() < of)
