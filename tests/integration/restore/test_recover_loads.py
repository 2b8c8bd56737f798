"""PostgreSQL's own programs load the files that recover writes, and the database is the one backed up."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from doubles.servers.database_diff import contents, schema
from doubles.servers.postgres import Server
from fix_postgres import Database
from fix_recover import Recover
from fix_regions import Region

from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.seal.keyfiles import write_identity


def recovered(region: Region, recover: Recover, *more: str) -> Path:
    """The folder of the one database in the region's store."""
    write_identity(region.folder / "id", "ops", region.identity, "pass")
    (region.folder / "pass").write_text("pass")
    out = region.folder / "out"
    key = ("--identity", region.folder / "id", "--passphrase-file", region.folder / "pass")
    result = recover(region.folder / "store", *key, "--out", out, *more)
    assert result.returncode == 0, result.stderr
    (folder,) = out.iterdir()
    return folder


def follow(readme: Path, server: Server) -> str:
    """Run README.txt's commands, as they stand, one after another; what they said."""
    commands = re.findall(r"^  (.+)$", readme.read_text(), re.MULTILINE)
    assert commands[0].startswith("cd ")
    path = f"{server.bin}:{os.environ['PATH']}"
    environment = {"PATH": path, "PGHOST": str(server.sockets), "PGPORT": str(server.port), "PGUSER": "postgres"}
    said = subprocess.run(
        ["bash", "-e"], input="\n".join(commands), check=False, capture_output=True, text=True, env=environment
    )
    assert said.returncode == 0, said.stderr
    return said.stderr


def everything(database: Database) -> dict[str, object]:
    """All a database can be compared by; rows in any order, for files of several segments are loaded one by one."""
    found = contents(database.server, database.name, ordered=False)
    return found | dict.fromkeys(schema(database.server, database.name), True)


def test_a_database_of_every_type_is_loaded_from_plain_files(
    every_type: Database, region: Region, recover: Recover
) -> None:
    """On every version, by the commands of README.txt alone, with rows, schema, sequences and large objects."""
    region.backup(every_type)
    folder = recovered(region, recover)
    before = everything(every_type)
    every_type.server.drop_database(every_type.name)
    said = follow(folder / "README.txt", every_type.server)
    after = everything(every_type)
    assert [key for key in before if before[key] != after.get(key)] == []
    assert sorted(after.keys() - before.keys()) == []
    assert "already exists" in said  # the roles
    shown = subprocess.run(
        [every_type.server.bin / "pg_restore", "--create", "-f", "-", "schema.dump"],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "pg_restore --create -f - schema.dump" in (folder / "README.txt").read_text()
    assert "SET work_mem" in shown.stdout, "what is not made under another name"


@pytest.fixture
def tenants(pg17: Server, make_database, region: Region) -> Database:
    """Two tenants by column, with a name that is no file name, and a shared table.

    The database's own setting has `NULL` in an array mean a text; what is in the arrays is no text.
    """
    database = make_database(pg17)
    database.sql(
        f"ALTER DATABASE {database.name} SET array_nulls TO off",
        "CREATE TABLE plans (id int PRIMARY KEY, name text, marks text[] DEFAULT ARRAY[NULL, 'NULL'])",
        "CREATE TABLE issues (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id text NOT NULL, "
        "plan int REFERENCES plans, body text)",
        "INSERT INTO plans (id, name) SELECT n, E'plan\\t' || n FROM generate_series(1, 5) n",
        "INSERT INTO issues (tenant_id, plan, body) SELECT CASE n % 3 WHEN 0 THEN 'acme' ELSE '../b & c' END, "
        "1 + n % 5, repeat(E'\\\\.\\n', n % 4) || n FROM generate_series(1, 300) n",
    )
    region.tenancy = Tenancy(
        kind=TenancyKind.COLUMN,
        column="tenant_id",
        rules=(TableRule(tables=("public.plans",), shared=True),),
        classes=region.tenancy.classes,
    )
    region.backup(database)
    return database


def test_tenants_are_loaded_together(tenants: Database, region: Region, recover: Recover) -> None:
    """Rows of all tenants come together again, and the identity column goes on where it was."""
    before = everything(tenants)
    folder = recovered(region, recover)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"shared", "tenant-1-_b_c", "tenant-2-acme"}
    tenants.server.drop_database(tenants.name)
    follow(folder / "README.txt", tenants.server)
    assert everything(tenants) == before
    assert tenants.sql("INSERT INTO issues (tenant_id) VALUES ('x') RETURNING id") == [(301,)]


def test_one_tenant_is_loaded_alone(tenants: Database, region: Region, recover: Recover) -> None:
    """With the shared rows its foreign keys need, and nobody else's."""
    folder = recovered(region, recover, "--tenant", "acme")
    tenants.server.drop_database(tenants.name)
    follow(folder / "README.txt", tenants.server)
    assert tenants.sql("SELECT tenant_id, count(*) FROM issues GROUP BY 1") == [("acme", 100)]
    assert tenants.sql("SELECT count(*) FROM plans") == [(5,)]
