"""Odd things in each folder of a store end no operation: it does its work beside them, and something names each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fix_clock import FAR, ShiftedClock, TickingClock
from fix_handmade_keeper import DAY, HandmadeKeeper, SeenEvents, make_handmade_keeper

from backupd.model.ids import RegionName
from backupd.model.status import Promises
from backupd.operations.attestation import attest
from backupd.operations.drill.choose import choose_drill
from backupd.operations.drill.types import DrillRequest
from backupd.operations.keeper.ingest import ingest
from backupd.operations.keeper.purge import purge_due
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.replication import Copying, replicate
from backupd.operations.reports.read import gather
from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest
from backupd.operations.snapshots import list_snapshots
from backupd.operations.status.region import StatusRequest, StorePlace, region_facts
from backupd.operations.verify import Scope, Tools, verify
from backupd.planning.verify import parse_share
from backupd.repository.lease import Claimant, hold_lease
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.store.directory import DirectoryStore
from backupd.trace import Warned

NOISE = b"noise"
STAMPED = "20991231T000000Z-deadbeef"


def _ours(generation: str) -> dict[str, list[str]]:
    """By folder, names of ours under which nothing of ours lies."""
    digest = hashlib.sha256(NOISE).hexdigest()
    return {
        "": ["odd", "recover.old"],
        "snapshots": [f"snapshots/{generation}/20991231T000000Z-{digest}"],
        "keyrings": [f"keyrings/{generation}/{STAMPED}.keyring"],
        "packs": [f"packs/{generation}/{digest}.pack"],
        "ledger": ["ledger/{next}.json", "ledger/{far}.json", "ledger/0000000000.json"],
        "attestations": [f"attestations/{digest}.json"],
        "reports": [f"reports/{STAMPED}.json"],
        "runs": [f"runs/{generation}/{STAMPED}", f"runs/{generation}/keeper"],
        "leases": ["leases/0000000009.json"],
        "tmp": ["tmp/left"],
        "incoming/n1": [
            f"incoming/n1/packs+{generation}+{digest}.pack",
            f"incoming/n1/keyrings+{generation}+{STAMPED}.keyring",
            f"incoming/n1/snapshots+{generation}+20991231T000000Z-{digest}",
        ],
    }


def _odd(folder: str, generation: str) -> list[str]:
    """Names that are nobody's: with control characters, in folders of folders, and in folders that look like ours."""
    below = f"{folder}/{generation}" if folder in ("snapshots", "keyrings", "packs", "runs") else folder
    start = f"{below}/" if below else ""
    return [
        f"{start}odd thing",
        f"{start}new\nline\\",
        f"{start}{'x' * 200}",
        f"{start}a/b/c/d",
        f"{start}0000000001.json.d/x",
        f"{start}" + "deep/" * 20 + "x",
    ]


class World:
    """A region of two stores, of which the first has snapshots of two tenants, and junk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handmade: HandmadeKeeper = make_handmade_keeper(folder)
        made = self.handmade.made
        root = folder / "far"
        root.mkdir()
        cellar = DirectoryStore(root)
        Repository(cellar, [made.signer.public]).put_info(made.info, made.signer)
        old, clock, self.seen = self.handmade.keeper, ShiftedClock(), SeenEvents()
        stores = {"disk": self.handmade.store, "cellar": cellar}
        signers, keepers = [made.signer.public, old.signer.public], frozenset({old.signer.public})
        place = LedgerPlace(
            old.region,
            old.repository,
            stores,
            DirectoryStore(folder / "copy"),
            keepers,
            clock,
            old.signer,
            FAR,
            trace=self.seen,
        )
        self.keeper = self.handmade.keeper = replace(
            old,
            stores={name: Repository(store, signers, keepers) for name, store in stores.items()},
            clock=clock,
            book=Book(place),
            trace=self.seen,
        )
        self.handmade.backup(60, "ada")
        self.newest = self.handmade.backup(1, "ada", "bob")
        self.planted: list[str] = []

    @property
    def repository(self) -> Repository:
        return self.keeper.stores["disk"]

    def plant(self, names: list[str]) -> None:
        """Junk of three days ago, and beside each a link and a folder."""
        entries = len(self.keeper.book.chain.links)
        for wanted in names:
            name = wanted.replace("{next}", f"{entries + 1:010d}").replace("{far}", "0000009999")
            self.handmade.put(name, NOISE, days_ago=3)
            self.planted.append(name)
        beside = (self.handmade.root / names[0]).parent
        (beside / "link").symlink_to("/nonexistent")
        (beside / "empty").mkdir(exist_ok=True)

    def environment(self) -> RestoreEnvironment:
        return RestoreEnvironment(
            self.handmade.made.identity.secret, TickingClock(), self.seen, os.urandom, store="disk"
        )

    def told(self) -> str:
        return "\n".join(f"{one.message} {one.hint}" for one in self.seen.seen if isinstance(one, Warned))


def snapshots(world: World) -> str:
    found = list_snapshots(world.repository)
    assert world.newest in {one.name for one in found.snapshots}
    return " ".join(one.reason for one in found.unreadable)


def restore(world: World) -> str:
    request = RestoreRequest("app", "latest", cast("Any", None), "new")
    history = read_history(world.repository, world.environment())
    opened = choose(request, world.repository, world.environment(), history)
    assert opened.snapshot == world.newest
    assert opened.names
    return ""


def drill(world: World) -> str:
    found = {
        **{name: getattr(world.environment(), name) for name in ("identity", "clock", "trace", "random", "own_ledger")},
        "store": "disk",
        "tenancies": {"app": None},
        "past": (),
    }
    choice = choose_drill(DrillRequest(snapshot="latest"), world.repository, cast("Any", SimpleNamespace(**found)))
    assert choice.chosen.candidate.name == world.newest
    return ""


def verified(world: World) -> str:
    with CheckedState(world.folder / "checked.sqlite") as checked:
        tools = Tools(TickingClock(), world.folder, store="disk", tags=world.handmade.made.tags)
        scope = Scope(parse_share("all"), world.handmade.made.identity.secret)
        result = verify(world.repository, checked, scope, tools)
    assert result.opened
    sentences = [one.sentence for one in result.findings]
    return " ".join([*sentences, *result.foreign, *result.leftovers, *result.orphans])


def status(world: World) -> str:
    book = world.keeper.book
    book.sync()
    place = StorePlace("disk", world.repository, world.handmade.store.inner, world.folder)
    request = StatusRequest(
        RegionName(world.keeper.region), ["app"], Promises(), 8 * DAY, 11 * DAY, world.keeper.clock.now(), os.urandom
    )
    (facts,) = region_facts(book, [place], request).stores
    assert facts.error is None
    return ""


def reports(world: World) -> str:
    found = gather(world.keeper.book, world.keeper.stores)
    return " ".join(str(fault) for fault in found.faults)


def taken(world: World) -> str:
    return " ".join([*(done := ingest(world.keeper, "disk")).refused, *done.waiting])


def expire(world: World) -> str:
    plan = world.handmade.plan()
    world.handmade.execute(plan)
    gone = [item.name for removal in plan.removals for item in removal.others if item.size == len(NOISE)]
    return " ".join([*plan.junk.values(), *plan.left_alone.values(), *gone, *(item.name for item in plan.uploads)])


def leased(world: World) -> str:
    keeper = world.keeper
    trusted = keeper.book.trusted
    claimant = Claimant(
        keeper.region, keeper.repository, "n", keeper.signer, trusted, keeper.clock, os.urandom, trace=world.seen
    )
    with hold_lease(world.handmade.store, claimant) as lease:
        lease.require()
    return ""


def copied(world: World) -> str:
    done = replicate(Copying(world.keeper, "disk", "cellar", world.folder / "scratch"))
    assert world.newest in done.snapshots
    return " ".join(done.damage)


def purged(world: World) -> str:
    world.handmade.erase("ada")
    run = purge_due(world.keeper)
    assert {one.store: one.absent for one in run.done} == {"disk": True, "cellar": True}
    return " ".join(error.message for error in run.errors.values())


def attested(world: World) -> str:
    attest(world.keeper, world.handmade.incarnation("ada"), {"disk": "ch", "cellar": "ch"})
    return ""


OPERATIONS: list[Callable[[World], str]] = [
    snapshots,
    restore,
    drill,
    verified,
    reports,
    status,
    taken,
    leased,
    expire,
    copied,
    purged,
    attested,
    verified,
]


@contextmanager
def named_in_trouble(operation: Callable[[World], str], folder: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"by {operation.__name__}, for what lies in '{folder}'")
        raise


@pytest.mark.parametrize("folder", list(_ours("")), ids=lambda folder: folder or "root")
def test_odd_things_end_nothing(tmp_path: Path, folder: str) -> None:
    """Each operation works beside them, and each of them is named by one, so that somebody may look."""
    world = World(tmp_path)
    generation = world.repository.generation_of(world.newest)
    world.plant([*_ours(generation)[folder], *_odd(folder, generation)])
    told = ""
    for operation in OPERATIONS:
        with named_in_trouble(operation, folder):
            told += operation(world)
    told += world.told()
    unnamed = [name for name in world.planted if name not in told and f"{name!r}"[1:-1] not in told]
    assert unnamed == [], told


def test_without_odd_things_nothing_is_named(tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    world = World(tmp_path)
    told = [operation(world) for operation in OPERATIONS]
    assert [one for one in told if one] == []
