"""FORMAT.md's invariants, looked at from outside: with scripts/recover, the soak's checker, and nothing of backupd."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from lib.soak.nodes import CHECKOUT
from lib.soak.oracle import Checker, Terms, load
from lib.sweep.world import World, shifted_now

ID = r"\d{8}T\d{6}Z-[0-9a-f]{8}"
PLACES = [
    re.compile(form)
    for form in (
        r"repository\.json|RECOVER\.md|recover|ballast",
        rf"snapshots/{ID}/\d{{8}}T\d{{6}}Z-[0-9a-f]{{64}}",
        rf"keyrings/{ID}/{ID}\.keyring",
        rf"packs/{ID}/[0-9a-f]{{64}}\.pack",
        r"ledger/\d{10}\.json",
        rf"attestations/[0-9a-f]{{64}}\.json|reports/{ID}\.json",
        rf"runs/{ID}/({ID}|keeper|{ID}\.keyring|[0-9a-f]{{64}}\.pack)",
        r"leases/\d{10}\.json",
        r"incoming/[a-z0-9-]+/[^/]+|incoming/[a-z0-9-]+/tmp/[0-9a-f]{32}",
        r"tmp/[0-9a-f]{32}",
    )
]
"""Where anything may lie, §1."""


def checker(world: World) -> Checker:
    """The soak's checker of the region's first store, which knows scripts/recover and the journal."""
    options = argparse.Namespace(
        store=world.places.disk,
        recover=CHECKOUT / "scripts" / "recover",
        journal=world.journal,
        seen=world.journal,
        identity=world.folder / "drill.identity",
        passphrase_file=world.folder / "drill.passphrase",
        out=world.folder.with_name("recovered"),
        now=shifted_now().isoformat(),
        also=[world.node / "state", world.node / "spool", world.folder.with_name("out"), world.folder.with_name("err")],
    )
    options.also = [path for path in options.also if path.exists()]
    made = Checker(options)
    made.terms = replace(Terms(), drill_every=timedelta(days=10_000))
    return made


def faults(world: World) -> list[str]:
    """Everything that is wrong with the stores: their form, and what comes out of them."""
    recover = load(CHECKOUT / "scripts" / "recover")
    found: list[str] = []
    for store in (world.places.disk, world.places.disk / "second"):
        root = store / "be"
        if (root / "repository.json").exists():
            try:
                found += [f"{store.name}: {fault}" for fault in form_faults(root, recover)]
            except recover.RecoverError as error:
                found.append(f"{store.name}: {error}")
    if not (world.region / "repository.json").exists():
        return found
    try:
        checking = checker(world)
        checking.all()
    except recover.RecoverError as error:
        return [*found, str(error)]
    return found + checking.faults


def form_faults(root: Path, recover: Any) -> Iterator[str]:
    """What of a store's folder is not as §1, §2, §5 and §6 have it, whoever made it."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_file() and not any(form.fullmatch(name) for form in PLACES):
            yield f"'{name}' has no place in the format"
    store = recover.Store(root, None)
    ledger = recover.Ledger(store)
    keyrings = {
        (folder.name, keyring.where.rpartition("/")[2].removesuffix(".keyring")): keyring
        for folder in sorted(root.glob("keyrings/*"))
        for keyring in store.keyrings(folder.name)
    }
    needed: set[tuple[str, str, int]] = set()
    for name in store.snapshots():
        record = store.record(name)
        for sha256, *both in record["packs"]:
            for ranges in both:
                for first, count in zip(ranges[::2], ranges[1::2], strict=True):
                    needed |= {(record["generation"], sha256, at) for at in range(first, first + count)}
    for path in sorted(root.glob("packs/*/*.pack")):
        yield from _pack_faults(store, ledger, keyrings, path, needed)
    for generation, sha256, at in sorted(needed):
        if not (root / f"packs/{generation}/{sha256}.pack").exists():
            yield f"2: section {at} of {sha256} is needed by a record, and the pack is not there"


def _pack_faults(store: Any, ledger: Any, keyrings: Any, path: Path, needed: Any) -> Iterator[str]:
    generation, sha256 = path.parent.name, path.name.removesuffix(".pack")
    pack = store.pack(generation, sha256)
    if not store.is_whole(pack):
        yield f"2: '{path.name}' is not as long as its header and map say"
        return
    data = path.read_bytes()
    for at, row in enumerate(pack.rows):
        purged = ledger.is_purged(generation, row.segment)
        keyring = keyrings.get((generation, row.keyring))
        if pack.there[at]:
            start = pack.offsets[at]
            if hashlib.sha256(data[start : start + row.length]).digest() != row.sha256:
                yield f"2: section {at} of '{path.name}' does not have its hash"
            if keyring is None:
                yield f"2: '{path.name}' names a keyring that is not there"
            elif row.place not in keyring.sealed and not purged:
                yield f"2: the key of section {at} of '{path.name}' is not in its keyring"
        elif (generation, sha256, at) in needed and not purged:
            yield f"4: section {at} of '{path.name}' is absent, and no ledger says why"


def marks(root: Path) -> list[str]:
    """Marks and leases' remains of runs that are over."""
    return [str(path.relative_to(root)) for path in sorted(root.glob("runs/*/*"))]
