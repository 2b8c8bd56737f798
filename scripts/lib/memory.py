"""Peak memory of a first backup, one after a day's changes, and a restore, for databases of several sizes.

All processes count but PostgreSQL's servers and sshd: the command line, its workers, psql, pg_dump, pg_restore.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

from lib import process_cost, sample_databases
from lib.servers import Region, start_account, start_region

CHECKOUT = Path(__file__).resolve().parents[2]
LIMIT = 256 << 20
SIZES = (700_000_000, 5_000_000_000)
TENANTS = (5, 5_000)


@dataclass(frozen=True, slots=True)
class Figure:
    """One command on one database."""

    size: int
    tenants: int
    command: str
    wall: float
    cpu: float
    memory: int
    parts: dict[str, int]
    """Of the peak, by program."""


@dataclass(frozen=True, slots=True)
class Place:
    """A node with its store and source."""

    folder: Path
    source: Region

    def run(self, *arguments: str) -> process_cost.Cost:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        environment = {"PATH": f"{self.source.server.bin}:/usr/bin:/bin", "PYTHONPATH": str(CHECKOUT), **kept}
        command = [sys.executable, "-m", "backupd", *arguments]
        config = {"BACKUPD_CONFIG": str(self.folder / "backupd.toml")}
        return process_cost.run(command, environment | config, self.folder, output=self.folder / "output")


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    figures = []
    for size in options.size or SIZES:
        for tenants in options.tenants or TENANTS:
            figures += one(sample_databases.Shape(size, tenants), quiet=options.json)
    if options.json:
        print(json.dumps([asdict(figure) for figure in figures]))
    over = [figure for figure in figures if figure.memory > options.limit]
    for figure in over:
        print(f"over the limit: {figure.command}, {figure.size} bytes, {figure.tenants} tenants", file=sys.stderr)
    return 1 if over else 0


def one(shape: sample_databases.Shape, *, quiet: bool) -> list[Figure]:
    """Measure the three commands on one database."""
    figures = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-memory-")))
        place = _build(stack, folder, shape)
        target = place.source.server.conninfo("restored")
        key = ("--identity", str(folder / "ops.identity"), "--passphrase-file", str(folder / "pass"))
        restore = ("restore", "database", "be", "tracker", "--snapshot", "latest", "--target", target, *key)
        for name, command in (("backup", ("backup",)), ("again", ("backup",)), ("restore", restore)):
            if name == "again":
                with place.source.server.connect("tracker") as connection:
                    sample_databases.change_tracker(connection)
            cost = place.run(*command)
            figures.append(Figure(shape.size, shape.tenants, name, cost.wall, cost.cpu, cost.memory, cost.parts))
            if not quiet:
                _print(figures[-1])
    return figures


def _build(stack: ExitStack, folder: Path, shape: sample_databases.Shape) -> Place:
    source = start_region(stack, "be", folder)
    with source.create("tracker") as connection:
        sample_databases.fill_tracker(connection, shape)
    home = folder / "ssh-account"
    home.mkdir()
    account, _ = start_account(stack, home)
    place = Place(folder, source)
    (folder / "pass").touch(mode=0o600)
    (folder / "pass").write_text("six words that only ops knows\n")
    _key(folder, "key", "generate", str(folder / "ops.identity"), "--passphrase-file", str(folder / "pass"))
    _key(folder, "key", "generate", "--tenant-key", str(folder / "tenant.key"))
    signer = _key(folder, "key", "generate", "--signer", str(folder / "signing.key"), "--json")
    keeper = _key(folder, "key", "generate", "--signer", str(folder / "keeper.key"), "--json")
    template = Template((Path(__file__).parent / "demo.toml").read_text())
    filled = template.safe_substitute(
        folder=folder,
        programs=source.server.bin,
        signer=json.loads(signer)["public"],
        keeper=json.loads(keeper)["public"],
        host=account.host,
        port=account.port,
        user=account.user,
        key=account.key_file,
        host_key=account.host_keys[0],
        tracker=source.dsn("tracker"),
        be_passfile=source.passfile,
    )
    # Of the demo's configuration, one region with one database.
    wanted = filled.partition("# A schema for each customer.")[0].replace(f'"{folder}/escrow.recipient"', "")
    before, _, after = wanted.partition("[stores.toronto]")
    (folder / "backupd.toml").write_text(
        before + after.partition("[regions.be]")[1] + after.partition("[regions.be]")[2]
    )
    place.run("init", "be")
    return place


def _key(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "backupd", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


def _print(figure: Figure) -> None:
    parts = ", ".join(f"{name} {size >> 20}" for name, size in sorted(figure.parts.items(), key=lambda one: -one[1]))
    print(
        f"{figure.size / 1e9:4.1f} GB {figure.tenants:6d} tenants  {figure.command:8s}"
        f" {figure.memory >> 20:4d} MB  ({parts})  {figure.wall:6.1f} s, cpu {figure.cpu:6.1f} s",
        flush=True,
    )


def _options(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="soak-memory", description=__doc__)
    parser.add_argument("--size", type=int, action="append", help="bytes of rows")
    parser.add_argument("--tenants", type=int, action="append")
    parser.add_argument("--limit", type=int, default=LIMIT, help="bytes")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
