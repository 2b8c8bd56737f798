"""Archives taken apart without a server: every version's layout, cuts, and what is passed on."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence

import pytest
from doubles.samples.archive_bytes import integer, text
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import DamageError, SourceError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.planning.incremental.steady_numbers import SteadyNumber
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.schema.archive import (
    ArchiveReader,
    divide_by_needs,
    join_archive,
    pack_entry,
    unpack_entries,
    with_definition,
)
from backupd.postgres.schema.dump import only_large_objects
from backupd.postgres.schema.ownership import divide_archive, divide_globals

VERSIONS = ((1, 14), (1, 15), (1, 16))
MADE = (0, 0, 12, 1, 0, 100, 0)
"""When: the fixed instant that is put in place of the real one."""


def entry(
    version: tuple[int, int], number: int, description: str, tag: str, namespace: str | None = None,
    definition: str = "", needs: tuple[int, ...] = (),
) -> bytes:  # fmt: skip
    """A TOC entry as pg_backup_archiver.c writes it."""
    relkind = integer(114) if version >= (1, 16) else b""
    return b"".join([
        integer(number), integer(0), text("1259"), text("16384"), text(tag), text(description), integer(2),
        text(definition), text("DROP"), text(None), text(namespace), text(""), text(None), relkind, text("owner"),
        text("false"), *(text(str(need)) for need in needs), text(None), b"\x03", struct.pack("<Q", 0),
    ])  # fmt: skip


def archive(version: tuple[int, int], *entries: bytes, rest: bytes = b"") -> bytes:
    compression = b"\x00" if version >= (1, 15) else integer(0)
    head = b"PGDMP" + bytes([*version, 0, 4, 8, 1]) + compression + b"".join(map(integer, MADE))
    return head + text("app") + text("17.1") + text("17.1") + integer(len(entries)) + b"".join(entries) + rest


@pytest.mark.parametrize("version", VERSIONS)
def test_fields_are_read_from_every_version(version: tuple[int, int]) -> None:
    """What an entry makes, where, and what it needs, in each of the three layouts."""
    made = entry(version, 7, "TABLE", "täble", "public", "CREATE TABLE …;", (1, 2))
    (read,) = ArchiveReader(io.BytesIO(archive(version, made)).read).entries()
    assert (read.dump_id, read.description, read.tag, read.namespace) == (7, "TABLE", "täble", "public")
    assert (read.owner, read.definition, read.dependencies, read.raw) == ("owner", "CREATE TABLE …;", (1, 2), made)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cut_archive_is_an_error_wherever_it_is_cut(version: tuple[int, int]) -> None:
    """No prefix of an archive passes for one."""
    whole = archive(version, entry(version, 1, "SCHEMA", "s"), entry(version, 2, "TABLE", "t", "s"))
    for length in range(len(whole)):
        with pytest.raises(SourceError):
            list(ArchiveReader(io.BytesIO(whole[:length]).read).entries())


@pytest.mark.parametrize(
    "start",
    [b"PGDMX", b"PGDMP\x01\x0d\x00\x04\x08\x01", b"PGDMP\x01\x11\x00\x04\x08\x01", b"PGDMP\x01\x10\x00\x04\x08\x03"],
)
def test_other_formats_and_versions_are_refused(start: bytes) -> None:
    """Neither other files, nor versions before and after, nor tar archives are guessed at."""
    with pytest.raises(SourceError, match="does not know"):
        ArchiveReader(io.BytesIO(start + bytes(100)).read)


@pytest.mark.parametrize("need", ["x", "", "-1", "1 2", "\N{SUPERSCRIPT TWO}"])
def test_a_dependency_that_is_no_number_is_refused(need: str) -> None:
    """Nothing is guessed."""
    version = (1, 16)
    data = archive(version, entry(version, 1, "TABLE", "t", needs=(need,)))
    with pytest.raises(SourceError, match="does not know"):
        list(ArchiveReader(io.BytesIO(data).read).entries())


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.binary(max_size=50)), max_size=10))
def test_packed_entries_come_back(entries: list[tuple[int, bytes]]) -> None:
    """A `ddl` file gives its entries back; no cut of it passes, but between two entries."""
    packed = b"".join(pack_entry(*one) for one in entries)
    assert list(unpack_entries(packed)) == entries
    ends = {sum(8 + len(raw) for _, raw in entries[:count]) for count in range(len(entries) + 1)}
    for length in range(len(packed)):
        if length not in ends:
            with pytest.raises(DamageError):
                list(unpack_entries(packed[:length]))


@pytest.mark.parametrize("version", VERSIONS)
def test_what_needs_what_is_left_out_is_left_out_too(version: tuple[int, int]) -> None:
    """And what needs that, however far from it and in whichever file; the rest stays as it was, in its order."""
    made = [
        entry(version, 1, "SCHEMA", "s"),
        entry(version, 2, "VIEW", "over it", "s", needs=(9, 1)),
        entry(version, 3, "RULE", "on that", "s", needs=(2,)),
        entry(version, 4, "TABLE", "t", "s", needs=(1,)),
    ]
    reader = ArchiveReader(io.BytesIO(archive(version, *made)).read)
    packed = [pack_entry(one.ordinal, one.raw) for one in reader.entries()]
    kept, left = divide_by_needs(reader.head, [packed[2] + packed[3], packed[0] + packed[1]])
    assert [raw for file in kept for _, raw in unpack_entries(file)] == [made[0], made[3]]
    assert [one.tag for one in left] == ["over it", "on that"]
    again, none = divide_by_needs(reader.head, kept)
    assert [raw for file in again for _, raw in unpack_entries(file)] == [made[0], made[3]]
    assert none == []


@given(st.text(max_size=30), st.text(max_size=30), st.sampled_from(VERSIONS))
def test_only_the_definition_changes(old: str, new: str, version: tuple[int, int]) -> None:
    """An entry with another definition differs in that and its id only."""
    made = entry(version, 3, "ACL", "t", "public", old, (1,))
    reader = ArchiveReader(io.BytesIO(archive(version, made)).read)
    (read,) = reader.entries()
    assert with_definition(read, reader.shape, 9, new) == entry(version, 9, "ACL", "t", "public", new, (1,))


SCHEMAS = Tenancy(TenancyKind.SCHEMA, schema_pattern=r"t_(?P<tenant>\w+)", role_pattern=r"t_(?P<tenant>\w+)")


def divided(*entries: bytes, tenancy: Tenancy = SCHEMAS) -> dict[str | None, list[tuple[int, bytes]]]:
    parts = divide_archive(io.BytesIO(archive((1, 16), *entries)).read, NamePatterns(tenancy, "app"))
    return {tenant: list(unpack_entries(data)) for tenant, data in parts.entries.items()}


def made(*fields: object, **more: object) -> bytes:
    return entry((1, 16), *fields, **more)


def test_entries_follow_what_they_need() -> None:
    """An object goes with the tenant's it needs, also through others; what needs two tenants' is shared."""
    entries = [
        made(1, "SCHEMA", "t_a"), made(2, "SCHEMA", "t_b"), made(3, "TABLE", "x", "t_a"),
        made(4, "TABLE", "y", "public"),
        made(5, "VIEW", "v", "public", needs=(3, 4)), made(6, "VIEW", "w", "public", needs=(5,)),
        made(7, "VIEW", "both", "public", needs=(3, 2)), made(8, "COMMENT", "SCHEMA t_b", needs=(2,)),
    ]  # fmt: skip
    parts = {tenant: [ordinal for ordinal, _ in part] for tenant, part in divided(*entries).items()}
    assert parts == {"a": [0, 2, 4, 5], "b": [1, 7], None: [3, 6]}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_numbering_gives_entries_other_ids_and_places(version: tuple[int, int]) -> None:
    """In what needs them, too, whether it is there or not; a tenant's part of a grant has its own. The rest stays."""
    acl = "GRANT SELECT ON TABLE public.x TO PUBLIC;\nGRANT ALL ON TABLE public.x TO t_a;\n"
    entries = [
        entry(version, 7, "TABLE", "x", "public", "CREATE …"), entry(version, 9, "ACL", "x", "public", acl, (7,)),
        entry(version, 8, "ACL", "SCHEMA public", None, "GRANT …", (4, 7)),
    ]  # fmt: skip
    keys: list[bytes] = []

    def numbering(found: Sequence[bytes]) -> list[SteadyNumber]:
        keys.extend(found)
        return [SteadyNumber(100 * at + 100, 5 * at) for at in range(len(found))]

    names = NamePatterns(SCHEMAS, "app")
    parts = divide_archive(io.BytesIO(archive(version, *entries)).read, names, numbering).entries
    assert len(set(keys)) == len(keys) == 5
    public, own = (f"{line}\n" for line in acl.splitlines())
    assert list(unpack_entries(parts["a"])) == [(10, entry(version, 300, "ACL", "x", "public", own, (100,)))]
    assert list(unpack_entries(parts[None])) == [
        (0, entry(version, 100, "TABLE", "x", "public", "CREATE …")),
        (5, entry(version, 200, "ACL", "x", "public", public, (100,))),
        (20, entry(version, 500, "ACL", "SCHEMA public", None, "GRANT …", (100, 400))),
    ]


def test_grants_are_cut_and_get_ids_of_their_own() -> None:
    """A tenant's part of a grant stands in its place in the order, under a new id above all others."""
    acl = (
        "GRANT ALL ON TABLE public.t_x TO t_a;\n"
        'SET SESSION AUTHORIZATION t_o;\nGRANT SELECT ON TABLE public.t_x TO "t_a";\nRESET SESSION AUTHORIZATION;\n'
        "GRANT SELECT ON TABLE public.t_x TO PUBLIC;\n"
    )
    entries = [made(40, "TABLE", "t_x", "public"), made(41, "ACL", "TABLE t_x", "public", acl, (40,))]
    parts = divided(*entries)
    (shared,) = [raw for ordinal, raw in parts[None] if ordinal == 1]
    assert shared == made(41, "ACL", "TABLE t_x", "public", "GRANT SELECT ON TABLE public.t_x TO PUBLIC;\n", (40,))
    assert parts["a"] == [(1, made(42, "ACL", "TABLE t_x", "public", acl[: acl.rindex("GRANT")], (40,)))]
    assert set(parts) == {None, "a"}
    joined = join_archive(b"PGDMP" + bytes([1, 16, 0, 4, 8, 1]), [one for part in parts.values() for one in part])
    assert joined[11:16] == integer(3)


def test_archives_of_large_objects_hold_nothing_else() -> None:
    """Entries about the database go, everything about large objects stays, and the data follows unchanged."""
    kept = [
        made(1, "ENCODING", "ENCODING"), made(2, "BLOB METADATA", "1..2"), made(3, "BLOBS", "1..2"),
        made(4, "ACL", "LARGE OBJECT 1"), made(5, "COMMENT", "LARGE OBJECTS 1..2"), made(6, "BLOB", "7"),
    ]  # fmt: skip
    others = [
        made(7, "DATABASE", "app"), made(8, "DATABASE PROPERTIES", "app"), made(9, "ACL", "DATABASE app"),
        made(10, "COMMENT", "DATABASE LARGE OBJECT"), made(11, "TABLE DATA", "t", "public"),
    ]  # fmt: skip
    data = b"\x01" * 3_000_000
    written: list[bytes] = []
    only_large_objects(io.BytesIO(archive((1, 16), *others, *kept, rest=data)).read, written.append)
    assert b"".join(written) == archive((1, 16), *kept, rest=data)


def test_globals_are_cut_by_role() -> None:
    """Statements about a tenant's role are that tenant's, whatever stands in strings and comments."""
    sql = """--
-- Roles of t_a; not a statement
--
\\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE staff;
ALTER ROLE staff SET search_path TO 't_a', 'public';
CREATE ROLE t_a;
COMMENT ON ROLE t_a IS 'x; -- y ''t_b''';
ALTER ROLE t_a SET "app.note" TO E'it''s \\\\; \\'';
GRANT t_b TO staff WITH ADMIN OPTION GRANTED BY postgres;
GRANT t_b TO t_a WITH INHERIT TRUE GRANTED BY t_b;
GRANT staff TO "t_B";
GRANT SET ON PARAMETER work_mem TO t_b;
\\unrestrict abc
"""
    parts = divide_globals(sql, NamePatterns(SCHEMAS, "app"), {"postgres"})
    assert {tenant: [line.split(" ", 2)[2] for line in part.splitlines()] for tenant, part in parts.items()} == {
        None: ["= 'UTF8';", "staff;", "staff SET search_path TO 't_a', 'public';"],
        "a": [
            "t_a;",
            "ROLE t_a IS 'x; -- y ''t_b''';",
            "t_a SET \"app.note\" TO E'it''s \\\\; \\'';",
            "TO t_a WITH INHERIT TRUE GRANTED BY t_b;",
        ],
        "b": ["TO staff WITH ADMIN OPTION;", "ON PARAMETER work_mem TO t_b;"],
        "B": ['TO "t_B";'],
    }


def test_a_name_of_a_role_may_be_two_lines() -> None:
    """One can be made so up to PostgreSQL 18. Who granted a membership is found by it, and only that is left out."""
    comment = "COMMENT ON ROLE t_b IS 'GRANTED BY x;';\n"
    sql = f'CREATE ROLE "of\nt_a";\nGRANT "of\nt_a" TO t_b GRANTED BY "first\none";\n{comment}'

    parts = divide_globals(sql, NamePatterns(SCHEMAS, "app"), {"first\none", "x"})

    assert parts == {None: 'CREATE ROLE "of\nt_a";\n', "b": f'GRANT "of\nt_a" TO t_b;\n{comment}'}
