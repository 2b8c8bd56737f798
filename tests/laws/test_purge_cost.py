"""The purge of one tenant costs calls and bytes that do not depend on the number of other tenants."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from doubles.lifecycle.lifecycle_world import REGION, World
from doubles.stores.fake_writer import segment
from doubles.stores.memory_store import KillingFuse, Line

from backupd.operations.keeper.purge import purge_due
from backupd.operations.ledger import Book
from backupd.seal.pack import ROW_SIZE


@dataclass(frozen=True)
class Cost:
    """Of one process of the keeper, on one store."""

    calls: int
    received: int
    """Bytes, of listings about."""
    sent: int
    packs: int
    """Bytes of packs that were read."""
    keyrings: int
    """Bytes of keyrings that were read; what a store reads behind a replacement is not among them."""


def crowd(folder: Path, tenants: int) -> World:
    """A region of so many tenants, backed up once on one of its stores."""
    world = World(folder)
    for number in range(tenants):
        world.rows[segment("uploaded", f"t{number}")] = [b"a row\n"]
    world.backup("near")
    return world


def keep(world: World, confirmed: int | None = None) -> Cost:
    """Purge what is due, and say what it cost."""
    place = world._place(KillingFuse())
    line = place.stores["near"]
    assert isinstance(line, Line)
    book = Book(place)
    book.sync()
    done = purge_due(world._keeper(place, book), confirmed)
    assert not done.errors
    return Cost(
        sum(line.calls.values()),
        sum(line.received.values()),
        line.sent,
        line.received["pack"],
        line.received["keyring"],
    )


def costs(folder: Path, tenants: int) -> tuple[Cost, Cost]:
    """Of one purge by a keeper that knows the store, and by one that has lost its memory of it."""
    world = crowd(folder, tenants)
    keep(world)
    world.erase("t3", "")
    warm = keep(world)
    shutil.rmtree(folder / "keeper")
    world.erase("t4", "")
    return warm, keep(world)


def test_a_purge_costs_in_proportion_to_its_tenant(tmp_path: Path) -> None:
    """Four times as many tenants: the same calls and bytes, but for the headers of the packs that are put anew, each
    read once when it is first seen and once behind that; none is sent.
    """
    number = int(os.environ.get("CROWD", "4400"))
    few, _ = costs(tmp_path / "few", 1000)  # one keyring: of two, the tenant might be in a short one
    many, cold = costs(tmp_path / "many", number)
    print(REGION, few, many, cold)  # noqa: T201 - measured with -s
    assert many.calls <= few.calls + 2
    assert many.sent <= 1.2 * few.sent
    assert many.received - many.packs <= 1.2 * (few.received - few.packs)
    assert max(many.packs, cold.packs) <= 2.5 * ROW_SIZE * number
    # One keyring of a thousand keys is read once, and put anew once.
    assert 0 < few.keyrings < 1.1 * few.sent


def together(folder: Path, leaving: int) -> Cost:
    """Of one run that purges so many tenants of a crowd of 300."""
    world = crowd(folder, 300)
    keep(world)
    for number in range(leaving):
        world.erase(f"t{3 + number}", "")
    return keep(world, leaving)


def test_purges_of_one_day_share_their_work(tmp_path: Path) -> None:
    """Eighty tenants in the packs and keyrings of one: these are replaced once, and everything is listed once.

    A tenant more is its entry in the ledger, and its section, which is read before it goes.
    """
    one, many = together(tmp_path / "one", 1), together(tmp_path / "many", 80)
    assert many.calls <= one.calls + 2 * 79
    assert many.packs <= 1.5 * one.packs
