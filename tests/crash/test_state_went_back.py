"""A machine's state folder is of yesterday, of another machine, half there, or gone: no snapshot is wrong, nothing
stops for good, and whatever is refused says what to do.

The state is a node's that is its own keeper, so that its copy of the ledger goes back with all the rest.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from doubles.paths import RECOVER
from doubles.servers.postgres import Server
from fix_internal_errors import found_in
from fix_nodes import NodeFolder
from fix_postgres import Database, unique

from backupd.seal import keyfiles, suite
from backupd.seal.keyfiles import write_identity, write_signer
from backupd.seal.tags import write_tenant_key

KEEPER = """
[keeper]
signing_key_file = "{node}/keeper.key"
"""
OPENED = ("--identity", "id", "--passphrase-file", "pass")
TENANTS = [f"secretive-{number}" for number in range(4)]


@dataclass
class Machine:
    """A node that keeps, as it stands after two days: `yesterday` is its state a day, a purge and an expiry ago."""

    node: NodeFolder
    database: Database
    saved: Path

    @property
    def state(self) -> Path:
        return self.node.node / "state"

    @property
    def yesterday(self) -> Path:
        return self.saved / "yesterday"

    def begin(self) -> None:
        for part in ("disk", "node"):
            shutil.rmtree(self.node.folder / part)
            shutil.copytree(self.saved / part, self.node.folder / part)

    def put_back(self, copy: Path) -> None:
        shutil.rmtree(self.state)
        shutil.copytree(copy, self.state)

    def change(self, word: str) -> None:
        self.database.sql(f"UPDATE note SET said = '{word}' WHERE id % 7 = 0")

    def entries(self, root: Path | None = None) -> list[Path]:
        folder = (root or self.state) / "be" / "ledger" / "ledger"
        return sorted(folder.glob("*.json"))

    def rows(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for tenant, row in self.database.sql("SELECT tenant, id || E'\t' || tenant || E'\t' || said FROM note"):
            found.setdefault(tenant, []).append(row)
        return {tenant: sorted(rows) for tenant, rows in found.items()}

    def try_all(self) -> list[str]:
        """What of a day's work does not succeed."""
        said = []
        for command in (
            ("backup", "be"),
            ("verify", "be", "--read-data", "all", *OPENED),
            ("purge", "be"),
        ):
            done = self.node.run(*command, "--json")
            assert found_in(done.stdout + done.stderr) == []
            if done.returncode:
                said.append(f"{command[0]} {done.returncode}: {done.stdout.decode()}")
        return said

    def goes_on(self, *gone: str) -> None:
        """From now on all is well: what is backed up is what is there, who was purged is nowhere, a script agrees."""
        self.change("and on")
        assert self.try_all() == []
        out = self.node.folder / "recovered"
        shutil.rmtree(out, ignore_errors=True)
        script = [*self.node.command()[:1], str(RECOVER), "disk", *OPENED, "--out", str(out)]
        subprocess.run(script, cwd=self.node.folder, check=True, capture_output=True)
        found = sorted(line for path in out.rglob("*note*.copy") for line in path.read_text().splitlines())
        assert found == sorted(row for tenant, rows in self.rows().items() if tenant not in gone for row in rows)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pg17: Server) -> Iterator[Machine]:
    """Made once for all tests of this file; each begins with a copy."""
    folder, name = tmp_path_factory.mktemp("machine"), unique("back")
    pg17.create_database(name)
    database = Database(pg17, name)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 4, md5(g::text) FROM generate_series(1, 200) g",
    )
    for part in ("node", "disk", "saved"):
        (folder / part).mkdir()
    pair = suite.generate()
    keyfiles.write_recipient(folder / "node" / "ops.recipient", keyfiles.Recipient("ops", pair.public))
    write_tenant_key(folder / "node" / "tenant.key")
    write_identity(folder / "id", "ops", pair, "pass")
    (folder / "pass").write_text("pass\n")
    node = NodeFolder(folder, pair, write_signer(folder / "node" / "signing.key"))
    node.configure(database)
    keeper = write_signer(folder / "node" / "keeper.key")
    config = folder / "node" / "backupd.toml"
    text = config.read_text().replace("[trust]\n", f'[trust]\nkeepers = ["{keeper.public}"]\n')
    config.write_text(text + KEEPER.format(node=node.node))
    machine = Machine(node, database, folder / "saved")
    node.json("init", "be")
    node.json("backup", "be")
    node.json("tenant", "hold", "be", TENANTS[3], "H-1", "--review", "2099-01-01")
    machine.change("yesterday")
    node.json("backup", "be")
    node.json("verify", "be")
    shutil.copytree(machine.state, machine.yesterday)
    machine.change("today")
    node.json("backup", "be")
    node.json("tenant", "erase", "be", TENANTS[0])
    database.sql(f"DELETE FROM note WHERE tenant = '{TENANTS[0]}'")
    node.json("backup", "be")
    for part in ("node", "disk"):
        shutil.copytree(folder / part, machine.saved / part)
    yield machine
    pg17.drop_database(name)


@pytest.fixture
def machine(made: Machine) -> Machine:
    made.begin()
    return made


def yesterday(machine: Machine) -> None:
    machine.put_back(machine.yesterday)


def gone(machine: Machine) -> None:
    shutil.rmtree(machine.state)


def index_of_yesterday(machine: Machine) -> None:
    """The index alone went back; the copy of the ledger is today's."""
    for path in machine.yesterday.glob("be/disk/*"):
        shutil.copy2(path, machine.state / "be" / "disk")


def ledger_of_yesterday(machine: Machine) -> None:
    """The copy of the ledger alone went back."""
    shutil.rmtree(machine.state / "be" / "ledger")
    shutil.copytree(machine.yesterday / "be" / "ledger", machine.state / "be" / "ledger")


def without_ledger(machine: Machine) -> None:
    shutil.rmtree(machine.state / "be" / "ledger")


def empty_files(machine: Machine) -> None:
    """As file systems leave what was not synced when the power went."""
    for path in machine.state.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"")


def halved_files(machine: Machine) -> None:
    for path in machine.state.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(machine: Machine) -> None:
    for path in machine.state.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"\xff" * path.stat().st_size)


def empty_entry(machine: Machine) -> None:
    path = machine.entries()[1]
    path.chmod(0o600)
    path.write_bytes(b"")


def without_an_entry(machine: Machine) -> None:
    machine.entries()[1].unlink()


WAYS: list[Callable[[Machine], None]] = [
    yesterday,
    gone,
    index_of_yesterday,
    ledger_of_yesterday,
    without_ledger,
    empty_files,
    halved_files,
    garbage,
    empty_entry,
    without_an_entry,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_state_that_is_not_the_last_one_stops_nothing(machine: Machine, way: Callable[[Machine], None]) -> None:
    """The store knows all that is needed; the state is filled again from it."""
    way(machine)
    machine.goes_on(TENANTS[0])
    assert machine.entries() == sorted(machine.entries())
    assert [path.read_bytes() for path in machine.entries()] == [
        path.read_bytes() for path in sorted((machine.node.folder / "disk" / "be" / "ledger").glob("*.json"))
    ]


@pytest.mark.parametrize("way", [yesterday, empty_entry], ids=lambda way: way.__name__)
def test_the_first_word_after_it_may_be_an_erasure(machine: Machine, way: Callable[[Machine], None]) -> None:
    """Nothing is appended that the ledger does not bear, and the tenant is gone."""
    way(machine)
    machine.node.json("tenant", "erase", "be", TENANTS[1])
    machine.database.sql(f"DELETE FROM note WHERE tenant = '{TENANTS[1]}'")
    machine.goes_on(*TENANTS[:2])
    machine.database.sql(
        "INSERT INTO note SELECT g, 'secretive-1', md5(g::text) FROM generate_series(1, 200) g WHERE g % 4 = 1 "
        "ON CONFLICT DO NOTHING"
    )


def test_two_machines_with_one_state_take_turns(machine: Machine, tmp_path: Path) -> None:
    """A copied machine backs up and keeps beside the one it is a copy of; neither undoes what the other did."""
    other = tmp_path / "other"
    shutil.copytree(machine.state, other)
    for turn in range(3):
        machine.change(f"turn {turn}")
        machine.node.json("tenant", "hold", "be", TENANTS[2], f"T-{turn}", "--review", "2099-01-01")
        assert machine.try_all() == []
        machine.state.rename(tmp_path / "aside")
        other.rename(machine.state)
        (tmp_path / "aside").rename(other)
    machine.goes_on(TENANTS[0])
    ledger = machine.node.json("ledger", "show", "be")
    assert {f"T-{turn}" for turn in range(3)} <= set(json.dumps(ledger).replace('"', " ").split())
