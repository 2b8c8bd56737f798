"""The operations that are swept: what stands before each, the command, and by what it is known to be done."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from backupd.seal import keyfiles, suite
from lib.soak.application import TABLES
from lib.sweep.invariants import checker
from lib.sweep.world import World, shifted_now

DAY = timedelta(days=1)
RESTORED = "restored"
SECOND = """[stores.second]
kind = "directory"
path = "{disk}/second"
location = "here"

[regions.be]"""
HANDED_IN = """[stores.disk]
kind = "sftp"
host = "store.example"
user = "writer"
key = "{node}/tenant.key"
keeper_user = "keeper"
keeper_key = "{node}/tenant.key"
ingest = true
host_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE1vQ2hhcmFjdGVyc1RvRmlsbFRoaXJ0eVR3b0J5"]
path = "backupd"
"""
OPENED = ("--identity", "{folder}/drill.identity", "--passphrase-file", "{folder}/drill.passphrase")


@dataclass(frozen=True)
class Operation:
    """One command, and how one sees from outside that it was done."""

    name: str
    arguments: tuple[str, ...]
    effect: Callable[[World], object]
    """What stands there in the end, equal for every way there."""
    by_script: bool = False
    """scripts/recover, and not backupd."""

    def command(self, world: World) -> list[str]:
        target = world.places.source.server.conninfo(RESTORED)
        return [word.format(folder=world.folder, target=target) for word in self.arguments]


@dataclass(frozen=True)
class Stage:
    """What stands before an operation."""

    saved: Path
    at: datetime


def records(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("snapshots/*/*"))


def backed_up(number: int) -> Callable[[World], object]:
    return lambda world: len(records(world.region)) >= number


def purged(world: World) -> object:
    """No key and no section of who left is there."""
    checking = checker(world)
    checking.census()
    gone = set(checking.journal.dues)
    theirs = {one for one in checking.journal.seen if checking.journal.incarnation_of(one) in gone}
    left = theirs & (checking._keys(world.region) | checking._stored(world.region))  # noqa: SLF001 - the checker of the sweep is one with this
    return bool(theirs), sorted(left)


def replicated(world: World) -> object:
    second = world.places.disk / "second" / "be"
    return records(second) == records(world.region) != []


def ingested(world: World) -> object:
    waiting = [path.name for path in world.region.glob("incoming/*/*") if path.is_file()]
    return len(records(world.region)), waiting


def drilled(world: World) -> object:
    """The verdict of the newest drill."""
    newest = max(world.region.glob("reports/*.json"))
    return json.loads(newest.read_bytes().split(b"\n")[0])["verdict"]


def rotated(world: World) -> object:
    """To how many recipients each keyring is sealed."""
    wraps = [path.read_bytes().split(b"\n")[2] for path in world.region.glob("keyrings/*/*.keyring")]
    return {len(json.loads(line)["wraps"]) for line in wraps}


def restored(world: World) -> object:
    """What is in the restored database, by table."""
    found = {}
    with contextlib.closing(world.places.source.server.connect(RESTORED)) as connection:
        for table, columns in TABLES.items():
            with connection.cursor().copy(f"COPY {table} ({columns}) TO STDOUT") as copy:
                found[table] = hashlib.sha256(b"".join(sorted(b"".join(copy).splitlines()))).hexdigest()
    return found


def recovered(world: World) -> object:
    out = world.folder / "recovered"
    return sorted(path.name for path in out.rglob("*.copy")), len(list(out.rglob("README.txt")))


OPERATIONS = [
    Operation("init", ("init", "be"), lambda world: (world.region / "repository.json").exists()),
    Operation("backup", ("backup", "be"), backed_up(1)),
    Operation("second backup", ("backup", "be"), backed_up(2)),
    Operation("expire", ("expire", "be", "--yes"), lambda world: records(world.region)),
    Operation("purge", ("purge", "be", "--yes"), purged),
    Operation("replicate", ("replicate", "be", "--from", "disk", "--to", "second"), replicated),
    Operation("ingest", ("ingest", "be"), ingested),
    Operation("restore", ("restore", "database", "be", "app", "--target", "{target}", *OPENED), restored),
    Operation("drill", ("drill", "be"), drilled),
    Operation("recover", ("{folder}/disk", *OPENED, "--out", "{folder}/recovered"), recovered, by_script=True),
    Operation("rotate", ("key", "rotate", "be", *OPENED), rotated),
]


class Preparation:
    """Makes every stage, one after another, in one life of the vendor."""

    def __init__(self, world: World, wanted: Collection[str]) -> None:
        self.world = world
        self.wanted = wanted
        self.stages: dict[str, Stage] = {}

    def all(self) -> Mapping[str, Stage]:
        world, application = self.world, self.world.control
        self._keep("init")
        self._run("init", "be")
        self._keep("backup")
        if "ingest" in self.wanted:
            self._handed_in()
        self._run("backup", "be")
        application.work()
        self._keep("second backup")
        self._backed_up(DAY)
        self._keep("restore", "drill", "recover")
        self._backed_up(4 * DAY)
        if "replicate" in self.wanted:
            self._second_store()
        if "rotate" in self.wanted:
            self._more_recipients()
        self._backed_up(8 * DAY)
        self._backed_up(DAY / 4)
        self._keep("expire")
        self._run("expire", "be", "--yes")
        application.leave(min(application.incarnations), early=True)
        self._run("tenant", "sync", "be")
        self._keep("purge")
        world.patches.clear()
        return self.stages

    def _backed_up(self, after: timedelta) -> None:
        self.world.control.work()
        self.world.pass_time(after.total_seconds())
        self._run("backup", "be")
        checker(self.world).census()

    def _handed_in(self) -> None:
        """A store with ingest, on which a node has handed in its first snapshot."""
        at, saved, node = shifted_now(), self.world.save("before ingest"), self.world.node
        (self.world.region / "incoming" / "one").mkdir(parents=True)
        own = f'[stores.disk]\nkind = "directory"\npath = "{self.world.places.disk}"\n'
        _rewrite(node / "backupd.toml", own, HANDED_IN.format(node=node))
        self.world.patches.append(by_folders(self.world.region))
        self._run("backup", "be")
        self._keep("ingest")
        self.world.patches.clear()
        self.world.load(saved, at)

    def _second_store(self) -> None:
        at, saved, config = shifted_now(), self.world.save("before replicate"), self.world.node / "backupd.toml"
        (self.world.places.disk / "second").mkdir()
        _rewrite(config, "[regions.be]", SECOND.format(disk=self.world.places.disk))
        _rewrite(config, 'stores = ["disk"]', 'stores = ["disk", "second"]')
        self._run("init", "be")
        self._keep("replicate")
        self.world.load(saved, at)

    def _more_recipients(self) -> None:
        at, saved, node = shifted_now(), self.world.save("before rotate"), self.world.node
        keyfiles.write_recipient(node / "more.recipient", keyfiles.Recipient("more", suite.generate().public))
        _rewrite(node / "backupd.toml", f'"{node}/ops.recipient"', f'"{node}/ops.recipient", "{node}/more.recipient"')
        self._keep("rotate")
        self.world.load(saved, at)

    def _run(self, *arguments: str) -> None:
        done = self.world.run(arguments)
        if done.status:
            raise RuntimeError(f"backupd {' '.join(arguments)} ended with {done.status}:\n{done.out}{done.err}")

    def _keep(self, *names: str) -> None:
        saved = self.world.save(names[0])
        for name in names:
            self.stages[name] = Stage(saved, shifted_now())


def by_folders(region: Path) -> Callable[[], None]:
    """Has accounts of an SSH store be folders: the keeper's the region's, the node's the one it hands in to."""

    def patch() -> None:
        from backupd.store.directory import DirectoryStore
        from backupd.store.handoff import HandoffStore
        from backupd.wiring import context

        def opened(_: Any, __: Any, ___: Any, ____: Any, role: str) -> Any:
            vault = DirectoryStore(region)
            return vault if role == "keeper" else HandoffStore(vault, DirectoryStore(region / "incoming" / "one"))

        vars(context)["_open_sftp_store"] = opened

    return patch


def _rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    if old not in text:
        raise ValueError(f"'{old}' is not in '{path.name}'")
    path.write_text(text.replace(old, new, 1))
