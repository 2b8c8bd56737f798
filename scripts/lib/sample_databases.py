"""Databases worth backing up: many tenants of very different sizes, of a chosen size, and a day's changes to them.

The server makes the rows, so that this is quick: about 30 MB a second. The same arguments make the same rows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

HERE = Path(__file__).parent
MARKER = "Quillfeather & Sons"
"""A tenant's name, to be looked for where no name may be."""

_TEXT_SIZE = 16 << 20
_COUNTRIES = {
    "BE": "Belgium",
    "CA": "Canada",
    "CH": "Switzerland",
    "DE": "Germany",
    "FR": "France",
    "NL": "Netherlands",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """How big a tracker is: bytes of its rows as COPY writes them, about, and among how many tenants they are."""

    size: int
    tenants: int
    seed: float = 0.42

    def counts(self) -> dict[str, int]:
        """Rows per table, from the measured sizes of their rows."""
        return {
            "tenants": self.tenants,
            "members": max(self.tenants, self.size // 40_000),
            "sessions": self.size // 20_000 + 1,
            "issues": self.size * 30 // 100 // 527 + 1,
            "comments": self.size * 31 // 100 // 234 + 1,
            "events": self.size * 33 // 100 // 170 + 1,
            "tickets": self.size // 10_000 + 1,
            "messages": self.size * 4 // 100 // 289 + 1,
        }


# `skewed` is a tenant, the first ones far more often: of 500, the biggest has an eighth of all rows, the median 0.05 %.
_ROWS = {
    "tenant": """
        SELECT g, CASE g WHEN 1 THEN %(marker)s ELSE initcap({words:12}) || ' ' || g END,
               (ARRAY['free', 'team', 'business'])[1 + g %% 3], (ARRAY['BE', 'CH', 'DE', 'FR', 'NL', 'CA'])[1 + g %% 6],
               timestamptz '2024-01-01 UTC' + g * interval '7 hours'
        FROM generate_series(1, %(tenants)s::bigint) AS g""",
    "member": """
        SELECT g, CASE WHEN g <= %(tenants)s THEN g ELSE {skewed} END, 'member' || g || '@customer.example', {words:14},
               jsonb_build_object('theme', (ARRAY['light', 'dark'])[1 + g %% 2], 'digest', g %% 7)
        FROM generate_series(1, %(members)s::bigint) AS g""",
    "session": """
        SELECT gen_random_uuid(), {skewed}, {member}, sha256(g::text::bytea), {moment}
        FROM generate_series(1, %(sessions)s::bigint) AS g""",
    "issue": """
        SELECT g, {skewed}, {member}, {words:20 + random() * 60}, {words:80 + 900 * random() ^ 2},
               (enum_range(NULL::issue_state))[1 + floor(random() * 5)],
               (ARRAY['{{}}', '{{bug}}', '{{bug,urgent}}', '{{"to discuss"}}'])[1 + floor(random() * 4)]::text[],
               CASE WHEN random() < 0.4 THEN round((random() * 40)::numeric, 2) END,
               at, at + random() * interval '9 days'
        FROM (SELECT g, {moment} AS at FROM generate_series(1, %(issues)s::bigint) AS g OFFSET 0) AS made""",
    "comment": """
        SELECT g, 1 + floor(random() * %(issues)s), {member}, {words:20 + 500 * random() ^ 2}, {moment}
        FROM generate_series(1, %(comments)s::bigint) AS g""",
    "sync_event": """
        SELECT g, {skewed}, (ARRAY['issue.updated', 'issue.moved', 'comment.added'])[1 + floor(random() * 3)],
               jsonb_build_object('id', gen_random_uuid(), 'object', floor(random() * 1e7)::int, 'note', {words:40}),
               {moment}
        FROM generate_series(1, %(events)s::bigint) AS g""",
    "ticket": """
        SELECT g, CASE WHEN random() < 0.9 THEN {skewed} END, {words:40}, {moment}
        FROM generate_series(1, %(tickets)s::bigint) AS g""",
    "ticket_message": """
        SELECT g, 1 + floor(random() * %(tickets)s), {words:100 + random() * 360}
        FROM generate_series(1, %(messages)s::bigint) AS g""",
}

_DAY = (
    """UPDATE issue SET state = 'done', updated_at = updated_at + interval '1 day' WHERE random() < %(share)s""",
    """UPDATE comment SET body = body || ' (edited)' WHERE random() < %(share)s / 10""",
    """INSERT INTO comment (issue_id, author_id, body, created_at)
       SELECT issue_id, author_id, {words:20 + 500 * random() ^ 2}, created_at + interval '70 days'
       FROM comment WHERE random() < %(share)s""",
    """INSERT INTO sync_event (tenant_id, kind, payload, at)
       SELECT tenant_id, 'board.read', payload || jsonb_build_object('id', gen_random_uuid()), at + interval '70 days'
       FROM sync_event WHERE random() < %(share)s""",
)


class _Terms:
    """The `{…}` of the statements above."""

    skewed = "1 + floor(%(tenants)s * random() ^ 3)"
    member = "1 + floor(%(members)s * random() ^ 2)"
    moment = "timestamptz '2026-01-01 UTC' + random() * interval '70 days'"

    @property
    def words(self) -> _Words:
        return _Words()


class _Words:
    """`{words:N}`: text of N characters, cut from the given one at some place."""

    def __format__(self, length: str) -> str:
        place = "(1 + random() * (length(%(text)b::bytea) - 2000))::int"
        return f"convert_from(substring(%(text)b::bytea FROM {place} FOR ({length})::int), 'UTF8')"


def fill_tracker(connection: psycopg.Connection[Any], shape: Shape) -> None:
    """Make the tables of an issue tracker in an empty database, and their rows. Needs autocommit."""
    values = {**shape.counts(), "marker": MARKER, "text": prose(min(_TEXT_SIZE, max(shape.size // 8, 1 << 20)))}
    _script(connection, "tracker.sql")
    connection.execute("SET jit = off")  # it would compile the text in, 16 MB at a time
    connection.execute("SELECT setseed(%s)", [shape.seed])
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO country VALUES (%s, %s)", _COUNTRIES.items())
    for table, rows in _ROWS.items():
        connection.execute(_statement(f"INSERT INTO {table} {rows}"), values)
    _script(connection, "tracker_after.sql")
    connection.execute("VACUUM ANALYZE")


def fill_small_tenants(connection: psycopg.Connection[Any], tenants: int) -> None:
    """A tracker in which every tenant has one small row and nothing else, the worst case for what costs per tenant."""
    _script(connection, "tracker.sql")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO country VALUES (%s, %s)", _COUNTRIES.items())
    connection.execute(
        "INSERT INTO tenant SELECT g, 't' || g, 'free', 'BE', timestamptz '2024-01-01 UTC' "
        "FROM generate_series(1, %s::bigint) AS g",
        [tenants],
    )
    _script(connection, "tracker_after.sql")
    connection.execute("VACUUM ANALYZE")


def change_tracker(connection: psycopg.Connection[Any], share: float = 0.01, seed: float = 0.1) -> int:
    """What a day does: this share of the issues is changed, scattered, and comments and events grow by as much; of the
    old comments, a tenth as many are edited.

    Returns how many rows were changed or added.
    """
    values = {"share": share, "text": prose(1 << 20)}
    connection.execute("SELECT setseed(%s)", [seed])
    changed = sum(connection.execute(_statement(change), values).rowcount for change in _DAY)
    connection.execute("REFRESH MATERIALIZED VIEW issue_count")
    connection.execute("VACUUM")
    return changed


def fill_schema_per_tenant(connection: psycopg.Connection[Any], tenants: list[str], rows: int) -> None:
    """One schema a tenant, of falling size, and a table everybody shares."""
    connection.execute("CREATE TABLE metric (id int PRIMARY KEY, name text NOT NULL)")
    connection.execute("INSERT INTO metric SELECT g, 'metric ' || g FROM generate_series(1, 12) AS g")
    for place, tenant in enumerate(tenants, 1):
        connection.execute(f"CREATE SCHEMA customer_{tenant}")
        connection.execute(
            f"CREATE TABLE customer_{tenant}.figure (id bigint PRIMARY KEY, metric_id int REFERENCES metric, "
            "day date NOT NULL, value double precision NOT NULL)"
        )
        connection.execute(
            f"INSERT INTO customer_{tenant}.figure SELECT g, 1 + g %% 12, date '2026-01-01' + (g / 12)::int, "
            "ln(g) * 7.5 FROM generate_series(1, %s::bigint) AS g",
            [rows // place],
        )


def fill_document_database(connection: psycopg.Connection[Any], documents: int) -> None:
    """A database that belongs to one tenant alone."""
    connection.execute(
        "CREATE TABLE document (id int PRIMARY KEY, title text NOT NULL, content bytea NOT NULL, tags text[] NOT NULL)"
    )
    connection.execute(
        "INSERT INTO document SELECT g, 'document ' || g, "
        "(SELECT string_agg(sha256((g * 100 + n)::text::bytea), '') FROM generate_series(1, 1 + g %% 40) AS n), "
        "ARRAY['tag ' || g %% 9] FROM generate_series(1, %s::int) AS g",
        [documents],
    )


def measure(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Rows and bytes of all tables of schema public, as COPY writes them."""
    rows = size = 0
    tables = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    for (table,) in connection.execute(tables).fetchall():
        cursor = connection.cursor()
        with cursor.copy(f"COPY {table} TO STDOUT".encode()) as copy:
            size += sum(len(block) for block in copy)
        rows += cursor.rowcount
    return rows, size


def prose(size: int) -> bytes:
    """Text of made-up words, some far more frequent than others, as in any language. It compresses like English."""
    dice = random.Random(7)
    consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
    words = [
        "".join(dice.choice(consonants) + dice.choice(vowels) for _ in range(dice.randint(1, 4))) for _ in range(5000)
    ]
    weights = [1 / (place + 2) for place in range(len(words))]
    text = " ".join(dice.choices(words, weights, k=size // 5))
    return text[:size].ljust(size, ".").encode()


def _statement(text: str) -> bytes:
    terms = _Terms()
    return text.format(words=terms.words, skewed=terms.skewed, member=terms.member, moment=terms.moment).encode()


def _script(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute((HERE / name).read_bytes())
