"""Owners, privileges, tablespaces and roles of an archive's entries: found and changed, and nothing else is."""

from __future__ import annotations

import io

import pytest
from doubles.samples.archive_bytes import integer, text

from backupd.postgres.schema.archive import ArchiveReader, Entry, join_archive
from backupd.postgres.schema.changes import SchemaChanges, changed_archive, database_tablespace
from backupd.postgres.schema.needs import schema_needs
from backupd.postgres.schema.roles import named_roles, replaced_roles

HEAD = b"PGDMP" + bytes([1, 14, 0, 4, 8, 1]) + b"\0" * 5 + b"\0" * 35 + b"\1\1\0\0\0" * 3
"""The head of an archive of version 1.14 without names."""


def raw(number: int, kind: str, definition: str, tablespace: str | None, owner: str) -> bytes:
    before = [integer(number), integer(0), text("0"), text("0"), text("tag"), text(kind), integer(2)]
    middle = [text(definition), text("DROP"), text(None), text("schema"), text(tablespace), text("heap")]
    return b"".join([*before, *middle, text(owner), text("false"), text("1"), text(None), b"\3" + bytes(8)])


def read(archive: bytes) -> list[Entry]:
    return list(ArchiveReader(io.BytesIO(archive).read).entries())


def one(kind: str, definition: str, tablespace: str | None = None, owner: str = "") -> Entry:
    return read(join_archive(HEAD, [(0, raw(1, kind, definition, tablespace, owner))]))[0]


ROLES = {
    'GRANT SELECT,INSERT ON TABLE public."TO" TO "a b";\n': ("ACL", {"a b"}),
    "REVOKE ALL ON SCHEMA s FROM PUBLIC;\nGRANT USAGE ON SCHEMA s TO a WITH GRANT OPTION;\n": ("ACL", {"a"}),
    "SET SESSION AUTHORIZATION a;\nGRANT SELECT(x) ON TABLE s.t TO b;\nRESET SESSION AUTHORIZATION;\n": (
        "ACL", {"a", "b"},
    ),
    "ALTER DEFAULT PRIVILEGES FOR ROLE a IN SCHEMA s GRANT SELECT ON TABLES  TO b;\n": ("DEFAULT ACL", {"a", "b"}),
    "CREATE POLICY p ON s.t FOR SELECT TO a, b USING ((SELECT 1 FROM c) > 0);\n": ("POLICY", {"a", "b"}),
    "CREATE POLICY p ON s.t USING ((EXTRACT(year FROM at) > (1)::numeric));\n": ("POLICY", set()),
    "CREATE USER MAPPING FOR a SERVER far OPTIONS (\n    \"user\" 'TO b'\n);\n": ("USER MAPPING", {"a"}),
    "CREATE USER MAPPING FOR public SERVER far;\n": ("USER MAPPING", set()),
    "ALTER ROLE a IN DATABASE d SET search_path TO 'x', y;\nALTER DATABASE d SET work_mem TO '1MB';\n": (
        "DATABASE PROPERTIES", {"a"},
    ),
    "CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS $$ SELECT 1; GRANT x TO a $$;\n": ("FUNCTION", set()),
}  # fmt: skip


@pytest.mark.parametrize("definition", ROLES)
def test_roles_are_found_and_replaced_where_roles_stand(definition: str) -> None:
    """Each statement of pg_dump that names a role; what is called like one elsewhere is left alone."""
    kind, roles = ROLES[definition]
    entry = one(kind, definition, owner="o")
    assert named_roles(entry) == {*roles, "o"}
    others = {role: f"new {role}" for role in roles}
    changed = one(kind, replaced_roles(entry, others), owner="o")
    assert named_roles(changed) == {*others.values(), "o"}
    assert replaced_roles(changed, {new: old for old, new in others.items()}).replace('"', "") == (
        definition.replace('"', "")
    )


ARCHIVE = join_archive(
    HEAD,
    [
        (0, raw(1, "DATABASE", 'CREATE DATABASE d WITH TEMPLATE = template0 TABLESPACE = "fa st";\n', None, "o")),
        (1, raw(2, "TABLE", "CREATE TABLE s.t (x text DEFAULT 'TABLESPACE = slow');\n", "slow", "o")),
        (2, raw(3, "ACL", "GRANT SELECT ON TABLE s.t TO a;\n", None, "o")),
        (3, raw(4, "EXTENSION", "CREATE EXTENSION IF NOT EXISTS tag;\n", None, "")),
        (4, raw(5, "PUBLICATION", "CREATE PUBLICATION p FOR ALL TABLES;\n", "", "other")),
    ],
)


def changed(changes: SchemaChanges) -> list[Entry]:
    stream = io.BytesIO(ARCHIVE + b"data")
    found = b"".join(changed_archive(stream.read, changes))
    assert found.endswith(b"data")
    return read(found)


def test_what_a_schema_needs_is_named() -> None:
    """Roles and owners, tablespaces of the database and of tables, extensions, and what not every role may make."""
    needs = schema_needs(read(ARCHIVE))
    assert (needs.roles, needs.owners) == ({"o", "a", "other"}, {"o", "other"})
    assert (needs.tablespaces, needs.extensions, needs.kinds) == ({"fa st", "slow"}, {"tag"}, {"PUBLICATION"})


def test_nothing_is_changed_unasked() -> None:
    """Byte for byte the same."""
    assert not SchemaChanges()
    assert [entry.raw for entry in changed(SchemaChanges())] == [entry.raw for entry in read(ARCHIVE)]


def test_each_change_changes_its_own() -> None:
    """Texts that look like a tablespace or a role stay; so do dump ids and what depends on them."""
    before = read(ARCHIVE)
    unowned = changed(SchemaChanges(no_owner=True))
    assert {entry.owner for entry in unowned} == {""}
    assert [entry.definition for entry in unowned] == [entry.definition for entry in before]
    assert [entry.dump_id for entry in changed(SchemaChanges(no_privileges=True))] == [1, 2, 4, 5]
    flat = changed(SchemaChanges(no_tablespaces=True))
    assert schema_needs(flat).tablespaces == frozenset()
    assert flat[0].definition == "CREATE DATABASE d WITH TEMPLATE = template0;\n"
    assert flat[1].definition == before[1].definition
    moved = changed(SchemaChanges(tablespaces={"fa st": "x", "slow": 'y "z"'}))
    assert (database_tablespace(moved[0].definition), moved[1].tablespace) == ("x", 'y "z"')
    given = changed(SchemaChanges(roles={"o": "p", "a": "b"}))
    assert schema_needs(given).roles == {"p", "b", "other"}
    assert [entry.dependencies for entry in given] == [entry.dependencies for entry in before]
