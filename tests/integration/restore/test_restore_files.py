"""A snapshot restored into plain files: what psql loads is what was backed up, and nobody else may read it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.servers.postgres import Server
from fix_every_type import install_extension
from fix_postgres import Database
from fix_recover import Recover
from fix_regions import Region
from test_recover_loads import everything, follow, recovered, tenants  # noqa: F401  # a fixture among them

from backupd.errors import DamageError, RefusedError, SpoolFullError
from backupd.operations.restore import RestoreReport, files
from backupd.operations.restore.files import TEMPORARY, NewFile, ScriptedRows, leftovers
from backupd.planning.selection import Selection

Written = Callable[..., tuple[Path, RestoreReport]]


@pytest.fixture
def written(region: Region, tmp_path: Path) -> Written:
    """Restores into files: the folder, and the report."""

    def run(server: Server, **request: Any) -> tuple[Path, RestoreReport]:
        folder = tmp_path / "files"
        return folder, region.restore(server, "", folder=folder, **request)

    return run


def test_a_database_of_every_type_is_loaded_by_psql_alone(
    every_type: Database, region: Region, written: Written
) -> None:
    """On every version, by the commands of README.txt, with rows, schema, sequences and large objects."""
    region.backup(every_type)
    folder, report = written(every_type.server)
    readme = (folder / "README.txt").read_text()
    assert "pg_restore" not in readme
    before = everything(every_type)
    every_type.server.drop_database(every_type.name)
    follow(folder / "README.txt", every_type.server)
    after = everything(every_type)
    assert [key for key in before if before[key] != after.get(key)] == []
    assert sorted(after.keys() - before.keys()) == []
    assert report.exact


def test_tables_of_an_extension_may_refer_to_each_other(
    pg17: Server,
    make_database: Callable[..., Database],
    region: Region,
    written: Written,
    restored: Callable[..., Database],
) -> None:
    """In a circle, by keys that the extension makes with its tables; PostgreSQL's own pg_restore refuses such rows."""
    install_extension(pg17)
    database = make_database(pg17)
    database.sql(
        "CREATE SCHEMA backupd_keys",
        "CREATE EXTENSION backupd_keys SCHEMA backupd_keys",
        "WITH heads AS (INSERT INTO backupd_keys.heads SELECT n, n * 2 FROM generate_series(1, 50) n) "
        "INSERT INTO backupd_keys.versions SELECT n, (n + 1) / 2, 'v' FROM generate_series(1, 100) n",
    )
    region.backup(database)
    before = everything(database)
    assert everything(restored(pg17)) == before
    folder, _ = written(pg17)
    database.server.drop_database(database.name)
    follow(folder / "README.txt", pg17)
    assert everything(database) == before
    assert database.sql("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND condeferrable") == [(1,)]


@pytest.fixture(params=["restore", "recover"])
def loaded(request: pytest.FixtureRequest, region: Region, written: Written, recover: Recover) -> Callable[..., str]:
    """Backs a database up, writes it into files in one of two ways, drops it and loads it; what README.txt says.

    Queries have the same answers before and after.
    """

    def run(database: Database, *queries: str) -> str:
        region.backup(database)
        before = [database.sql(query) for query in queries]
        folder = written(database.server)[0] if request.param == "restore" else recovered(region, recover)
        database.server.drop_database(database.name)
        follow(folder / "README.txt", database.server)
        assert [database.sql(query) for query in queries] == before
        return (folder / "README.txt").read_text()

    return run


def test_a_schema_public_that_was_dropped_does_not_come_back(
    pg18: Server,
    make_database: Callable[..., Database],
    region: Region,
    recover: Recover,
    written: Written,
    restored: Callable[..., Database],
) -> None:
    """A new database begins with it, and pg_dump does not say that it is gone."""
    source = make_database(pg18)
    source.sql("CREATE SCHEMA own", "CREATE TABLE own.t AS SELECT 1 AS a", "DROP SCHEMA public")
    region.backup(source)
    every = "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('own', 'public')"
    assert restored(pg18).sql(every) == [("own",)]
    for readme in (written(pg18)[0] / "README.txt", recovered(region, recover) / "README.txt"):
        pg18.drop_database(source.name)
        follow(readme, pg18)
        assert source.sql("SELECT * FROM own.t") == [(1,)]
        assert source.sql(every) == [("own",)], readme


def test_rows_that_hash_to_other_partitions_elsewhere(
    pg15: Server, make_database: Callable[..., Database], loaded: Callable[..., str]
) -> None:
    """Values of an enumeration hash by their OIDs; two levels down, too, with a generated and an identity column."""
    database = make_database(pg15)
    database.sql(
        "CREATE TYPE state AS ENUM ('new', 'open', 'held', 'closed', 'void')",
        "CREATE TABLE public.ticket (id int GENERATED ALWAYS AS IDENTITY, s state NOT NULL, gone int,"
        " twice int GENERATED ALWAYS AS (n * 2) STORED, n int) PARTITION BY RANGE (n)",
        "ALTER TABLE public.ticket DROP COLUMN gone",
        'CREATE TABLE public."low ""s" PARTITION OF public.ticket FOR VALUES FROM (0) TO (50) PARTITION BY HASH (s)',
        "CREATE TABLE public.high PARTITION OF public.ticket FOR VALUES FROM (50) TO (1000)",
        *(
            f'CREATE TABLE public.low_{n} PARTITION OF public."low ""s" FOR VALUES WITH (modulus 5, remainder {n})'
            for n in range(5)
        ),
        "INSERT INTO public.ticket (s, n) SELECT (enum_range(NULL::state))[1 + n % 5], n FROM generate_series(1, 99) n",
    )
    loaded(
        database,
        "SELECT id, s, twice, n FROM public.ticket ORDER BY id",
        "SELECT count(*) FROM public.high",
        "SELECT count(*) FROM pg_trigger",
    )


def test_names_and_rows_of_another_encoding(
    pg15: Server, make_database: Callable[..., Database], loaded: Callable[..., str]
) -> None:
    """Names are in UTF-8 in the scripts, rows as they lie in the database, with a byte that is nothing in UTF-8."""
    database = make_database(pg15, options="ENCODING 'WIN1252' LOCALE 'C'")
    database.sql(
        'CREATE TABLE public."Zoé€" ("clé" int PRIMARY KEY, x text)',
        'CREATE SEQUENCE public."numéro"',
        "SELECT nextval('public.\"numéro\"')",
        'CREATE TABLE public."two\nlines é" (x text)',
        *(
            f"INSERT INTO public.{table} VALUES ({key}convert_from('x\\201y\\351', 'WIN1252'))"
            for table, key in (('"Zoé€"', "1, "), ('"two\nlines é"', ""))
        ),
    )
    text = "convert_to(x, 'WIN1252')"
    queries = (f'SELECT "clé", {text} FROM public."Zoé€"', f'SELECT {text} FROM public."two\nlines é"')
    readme = loaded(database, *queries, 'SELECT last_value FROM public."numéro"')
    assert "in COPY's text format, WIN1252." in " ".join(readme.split())


def test_nulls_in_arrays_stay_nulls(
    tenants: Database,  # noqa: F811 - a fixture that is imported
    written: Written,
) -> None:
    """Whatever the database's own settings have them mean."""
    folder, _ = written(tenants.server)
    before = everything(tenants)
    tenants.server.drop_database(tenants.name)
    follow(folder / "README.txt", tenants.server)
    assert everything(tenants) == before


def test_the_manifest_lists_every_file(every_type: Database, region: Region, written: Written) -> None:
    """With size, digest and rows; files are their owner's only; nothing temporary is left."""
    region.backup(every_type)
    folder, report = written(every_type.server)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert found.keys() - {one["path"] for one in manifest["files"]} == {"MANIFEST.json"}
    for one in manifest["files"]:
        data = found[one["path"]].read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (one["bytes"], one["sha256"])
    assert sum(one.get("rows", 0) for one in manifest["files"]) == manifest["rows"] == report.rows
    assert (manifest["snapshot"], manifest["exact"]) == (report.snapshot, True)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*")) if path.is_dir()}
    assert (modes, {stat.S_IMODE(path.stat().st_mode) for path in found.values()}) == ({0o700}, {0o600})
    assert leftovers(folder.parent) == []
    assert list(folder.parent.glob(".*")) == []


def test_it_is_what_recover_writes(
    tenants: Database,  # noqa: F811 - a fixture that is imported
    region: Region,
    recover: Recover,
    written: Written,
) -> None:
    """The same files with the same bytes, tenant by tenant, and the same facts; a tenant alone likewise."""
    folder, _ = written(tenants.server)
    theirs = recovered(region, recover)
    rows = {str(path.relative_to(theirs)): path.read_bytes() for path in theirs.rglob("*.copy") if path.stat().st_size}
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.copy")} == rows
    assert len(rows) == 3
    for name in ("tenants.json", "facts.json"):
        assert json.loads((folder / name).read_text()) == json.loads((theirs / name).read_text())
    assert (folder / "globals.sql").read_bytes() == (theirs / "globals.sql").read_bytes()
    ours, loading = ((path / "load.sql").read_text().split("\n") for path in (folder, theirs))
    assert sorted(ours) == sorted(loading)


def test_one_tenant_some_tables_or_a_class(tenants: Database, region: Region, tmp_path: Path) -> None:  # noqa: F811 - a fixture that is imported
    """Only what is asked for is written, and README.txt says that keys may not hold."""
    folder = tmp_path / "one"
    region.restore(tenants.server, "", folder=folder, selection=Selection(tenants=frozenset({"acme"})))
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"shared", "tenant-1-acme"}
    assert "Rows are left out" in (folder / "README.txt").read_text()
    tables = tmp_path / "tables"
    region.restore(tenants.server, "", folder=tables, selection=Selection(tables=("public.plans",)))
    assert [path.name for path in tables.rglob("*.copy")] == ["public.plans.copy"]
    assert not (tables / "foreign-keys.sql").exists()
    tenants.server.drop_database(tenants.name)
    follow(folder / "README.txt", tenants.server)
    assert tenants.sql("SELECT tenant_id, count(*) FROM issues GROUP BY 1") == [("acme", 100)]
    assert tenants.sql("SELECT count(*) FROM plans") == [(5,)]


def test_what_fails_leaves_nothing(
    tenants: Database,  # noqa: F811 - a fixture that is imported
    region: Region,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder that exists, a disk that is full before or meanwhile: refused in words, nothing under either name."""
    there = tmp_path / "there"
    there.mkdir()
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(RefusedError, match="exists already"):
        region.restore(tenants.server, "", folder=there)
    with pytest.raises(RefusedError, match="cannot be written"):
        region.restore(tenants.server, "", folder=tmp_path / "no" / "parent")
    target = tmp_path / "new"
    with monkeypatch.context() as patched:
        patched.setattr(files.shutil, "disk_usage", lambda _: type("U", (), {"free": 5 << 20}))
        with pytest.raises(SpoolFullError, match="there are 5 MiB left"):
            region.restore(tenants.server, "", folder=target)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", full)
        with pytest.raises(SpoolFullError, match="full"):
            region.restore(tenants.server, "", folder=target)
    assert {path.name for path in tmp_path.iterdir()} == before


def test_what_a_killed_restore_leaves_is_known(tmp_path: Path) -> None:
    """A folder under a temporary name that nobody holds; one that is being written to is left alone."""
    (tmp_path / f"{TEMPORARY}0123abcd").mkdir()
    (tmp_path / f"{TEMPORARY}no").mkdir()
    assert [path.name for path in leftovers(tmp_path)] == [f"{TEMPORARY}0123abcd"]
    held = os.open(tmp_path / f"{TEMPORARY}0123abcd", os.O_RDONLY)
    try:
        files.fcntl.flock(held, files.fcntl.LOCK_EX)
        assert leftovers(tmp_path) == []
    finally:
        os.close(held)


@pytest.mark.parametrize("pieces", [[b"1\n\\.\n2\n"], [b"1\n", b"\\.\n"], [b"1\n\\", b".\n"], [b"\\", b"."]])
def test_rows_in_a_script_hold_no_commands(tmp_path: Path, pieces: list[bytes]) -> None:
    """Who signs a false snapshot writes any bytes as rows: psql must not obey them, wherever a piece of them ends."""
    with (tmp_path / "script").open("wb") as file:
        rows = ScriptedRows(NewFile(file))
        for piece in pieces[:-1]:
            rows.write(piece)
        with pytest.raises(DamageError, match="would be obeyed as a command"):
            rows.write(pieces[-1])


def test_rows_in_a_script_are_what_copy_writes(tmp_path: Path) -> None:
    """A value of a backslash and a point has two backslashes, and a null is no point."""
    text = b"\\\\.\n\\N\t\\\\.\n.\n"
    with (tmp_path / "script").open("wb") as file:
        rows = ScriptedRows(NewFile(file))
        for at in range(len(text)):
            rows.write(text[at : at + 1])
    assert (tmp_path / "script").read_bytes() == text
