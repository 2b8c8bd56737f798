"""A thief of a node has its state, its keys and its account. He signs, adds, hides, and, where that account may write
anything, alters and removes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from doubles.adversary.besieged_region import (
    OWN,
    TENANTS,
    BesiegedRegion,
    content_of,
    replace_struct,
)
from doubles.stores.fake_writer import DATABASE, Made
from doubles.stores.memory_store import MachineClock, VirtualTime

from backupd.errors import BackupdError
from backupd.model.documents import RepositoryInfo, encode_body
from backupd.model.ids import GenerationId, ObjectName, RunId, SegmentTags
from backupd.model.ledger import LedgerEntry, PurgeBegan, encode_entry
from backupd.model.tenancy import SegmentName
from backupd.model.text import compact, stamp
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.repository import signed_record
from backupd.seal.documents import Signer
from backupd.seal.keyring import Keyring, KeyringIds, KeyringWriter
from backupd.store.names import flat

Rights = Literal["hand in", "add", "write"]
"""What an account may do: put files into one folder; add and rename, as `internal-sftp` with a list of denied requests
lets it; or everything."""
JUNK = {
    "nothing": b"",
    "a word": b"junk",
    "lines": b"ab\n" * 5000,
    "no signature": b'{"kind":"snapshot"}\n{"signatures":[]}\n',
    "all bytes": bytes(range(256)) * 40,
}
AREAS = (
    "ledger",
    "keyring",
    "record",
    "pack",
    "lease",
    "attestation",
    "report",
    "keeper mark",
    "run mark",
    "upload",
    "odd",
)
ODD = (
    "line\nbreak",
    "back\\slash",
    "caf\udce9",
    "+",
    "snapshots+",
    "a" * 200,
    "deep/er/still/deeper",
    "tmp+",
    ".hidden",
)
FORGED = "forged"


@dataclass
class NodeThief:
    """`signing`: he has the node's keys, and not its account alone."""

    region: BesiegedRegion
    rights: Rights
    signing: bool
    made: set[str] = field(default_factory=set)
    """Names of what he put anywhere, as they would be in their place."""
    rivals: list[datetime] = field(default_factory=list)
    """When his false snapshots were exported that do not lie about that: no date tells them from honest ones."""
    undo: list[Callable[[], None]] = field(default_factory=list)
    """What puts each honest object back that he moved, altered or took away, the last one last."""
    touched: set[str] = field(default_factory=set)
    """The names of such objects, of all times: a keeper that ran meanwhile takes in late what comes back."""
    _own: dict[str, bytes] = field(default_factory=dict)
    """What he put last under each name."""
    spoils: bool = False
    """Whether he touched what honest runs had handed in, and no keeper had taken yet."""
    counter: int = 0

    def __post_init__(self) -> None:
        self.signer = self.region.signer if self.signing else Signer(self.region.random(32))
        self.old_keyrings: list[tuple[str, bytes]] = []

    def take(self, name: str, back: Callable[[], None]) -> None:
        """Note that an honest object is not where and as it was, and what puts it back."""
        self.touched.add(name)
        self.undo.append(back)

    @property
    def disturbs(self) -> bool:
        """Whether something of honest people is not where and as they left it."""
        return bool(self.undo)

    # ---- his way to the store

    def put(self, name: str, data: bytes, ago: timedelta = timedelta()) -> None:
        """Put a file, as far as his account may; dates are his own only where the account sets them."""
        path = self._path(name)
        with suppress(OSError):
            if self.rights == "add" and path.exists():
                return
            if path.is_file() and self.rights == "write" and path.read_bytes() != self._own.get(name):
                self.take(name, partial(self._put_back, name, path.read_bytes()))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self._own[name] = data
            at = self.region.time.now - (timedelta() if self.rights == "add" else ago)
            os.utime(path, (at.timestamp(),) * 2)
            self.made.add(name)

    def new(self) -> str:
        self.counter += 1
        return f"{self.counter:08x}"

    def hex(self, size: int) -> str:
        return self.region.random(size).hex()

    # ---- junk

    def junk(self, area: str, content: str, pick: int, ago: timedelta) -> None:
        """Something under a name of the format's, or nearly so."""
        generation = self.generation(pick)
        ahead = f"20991231T000000Z-{self.new()}"
        folder = self.region.root / "ledger"
        number = len(list(folder.iterdir())) + 1 if folder.exists() else 1
        names = {
            "ledger": layout.entry_name(number),
            "keyring": layout.keyring_name(generation, RunId(ahead)),
            "record": f"snapshots/{generation}/20991231T000000Z-{self.hex(32)}",
            "pack": f"packs/{generation}/{self.hex(32)}.pack",
            "lease": layout.lease_name(99),
            "attestation": f"attestations/{self.hex(32)}.json",
            "report": f"reports/{ahead}.json",
            "keeper mark": layout.keeper_mark(generation),
            "run mark": layout.run_mark(generation, RunId(ahead)),
            "upload": f"tmp/{self.hex(16)}",
        }
        odd = ODD[pick % len(ODD)]
        folders = (
            "",
            "packs/",
            f"packs/{generation}/",
            "keyrings/",
            f"snapshots/{generation}/",
            "ledger/",
            "tmp/",
            "incoming/",
        )
        self.put(names.get(area) or f"{folders[pick // 10 % len(folders)]}{odd}", JUNK[content], ago)

    def generation(self, pick: int) -> GenerationId:
        honest = sorted({record.generation for record in self.region.records.values()})
        if honest and pick % 4:
            return honest[pick % len(honest)]
        return GenerationId(f"{compact(self.region.time.now)}-{self.new()}")

    # ---- forgeries

    def shadow_keyring(self, pick: int, ago: timedelta, *, before: bool) -> None:
        """Honest segments with their own tags, and other keys."""
        listed = self._listed(pick)
        self._put_keyring(pick, [(pseudonym, tags) for pseudonym, tags in listed], ago, before=before)

    def claiming_keyring(self, pick: int, ago: timedelta) -> None:
        """Honest segments of everybody, listed as those of a tenant that is or will be purged."""
        generation, tags = self.generation(pick), self.region.tags
        incarnation = tags.tenant_id(TENANTS[pick % len(TENANTS)])
        claimed = SegmentTags(
            tags.tenant_tag(generation, incarnation, 1),
            tags.class_tag(generation, "uploaded"),
            tags.database_tag(generation, DATABASE),
        )
        self._put_keyring(pick, [(pseudonym, claimed) for pseudonym, _ in self._listed(pick)], ago)

    def false_backup(self, back: timedelta, *, empty: bool, ago: timedelta) -> None:
        """A whole snapshot with rows that nobody wrote, made with the node's own state, of a day in the past."""
        region = self.region
        stolen = region.folder / f"stolen-{self.new()}"
        if (region.folder / "node").exists():
            shutil.copytree(region.folder / "node", stolen)
        clock = MachineClock(VirtualTime(region.time.now - back))
        writer = region.make_writer(stolen.name, clock, {})
        writer.signer, writer.others = self.signer, tuple(region.signers)
        self._rival(region.time.now - back)
        rows = {} if empty else {tenant: [f"{FORGED} {self.counter}"] for tenant in (None, *TENANTS)}
        before = self.files()
        with suppress(BackupdError):
            for _ in writer.run("disk", region.writers_way(), content_of(rows), Made()):
                pass
        self.made |= self.files() - before
        if self.rights != "add":
            for name in self.files() - before:
                at = (region.time.now - ago).timestamp()
                with suppress(OSError):
                    os.utime(self._path(name), (at, at))

    def false_record(self, pick: int, back: timedelta, how: str) -> None:
        """An honest record that says something else, signed again."""
        snapshot = self._pick(sorted(self.region.records), pick)
        if snapshot is None:
            return
        record, now = self.region.records[snapshot], self.region.time.now
        changes: dict[str, Any] = {
            "older": {"exported": stamp(now - back), "published": stamp(now - back)},
            "ahead": {"exported": stamp(now + back), "published": stamp(now + back)},
            "later": {"exported": stamp(now.replace(hour=23, minute=59) - back)},
            "empty": {"packs": [], "exported": stamp(now)},
            "fewer": {"packs": record.packs[:-1], "exported": stamp(now)},
            "reduced": {"extra": {"reduced": snapshot}, "exported": stamp(now)},
            "ledger": {"ledger": replace_struct(record.ledger, seq=record.ledger.seq + 9), "exported": stamp(now)},
            "chain": {"previous": None, "exported": stamp(now)},
        }[how]
        if how != "reduced":
            self._rival(datetime.fromisoformat(changes.get("exported", "")))
        name, data = signed_record(replace_struct(record, **changes), self.signer)
        self.put(layout.record_name(record.generation, name), data)

    def end_runs(self, pick: int) -> None:
        """A record in the name of each run whose mark he sees: that it is over."""
        snapshot = self._pick(sorted(self.region.records), pick)
        if snapshot is None:
            return
        for mark in [*self.region.root.glob("runs/*/*"), *self.region.root.glob(f"{OWN}/runs+*")]:
            place = layout.place_of(ObjectName("/".join(str(mark).replace("+", "/").split("/")[-3:])))
            if place.run is not None:
                now = stamp(self.region.time.now)
                record = replace_struct(self.region.records[snapshot], run=place.run, exported=now, published=now)
                self._rival(self.region.time.now)
                name, data = signed_record(record, self.signer)
                self.put(layout.record_name(record.generation, name), data)

    def false_entry(self, *, everybody: bool) -> None:
        """An entry of the ledger by which all that is there is to be purged, signed with the node's key."""
        region, chain = self.region, self.region.keeper.book.chain
        victim = region.tags.tenant_id(TENANTS[0])
        segments = (
            [(record.generation, p) for record in region.records.values() for p in region.owners] if everybody else []
        )
        entry = LedgerEntry(
            repository=region.repository_id,
            region=chain.region,
            seq=len(chain.links) + 1,
            previous=chain.head.head,
            at=stamp(region.time.now),
            events=[PurgeBegan(tenant=victim, incarnation=1, segments=sorted(set(segments)), stores=["disk"])],
        )
        self.put(layout.entry_name(entry.seq), self.signer.sign(encode_entry(entry), "ledger"))

    def false_repository(self) -> None:
        """The repository's document anew, with keepers of his own."""
        region = self.region
        info = RepositoryInfo(
            repository=region.repository_id,
            region=region.tags.region,
            created=stamp(region.time.now),
            signers=[self.signer.public],
            keepers=[self.signer.public],
        )
        self.put(layout.REPOSITORY, self.signer.sign(encode_body(info), "repository"))

    # ---- what is there, taken away

    def alter(self, pick: int, how: str) -> None:
        """Remove or damage an honest object, or put an old keyring back."""
        name = self._pick(self.honest_objects(), pick)
        if name is None or self.rights != "write":
            return
        path = self.region.root / name
        data = path.read_bytes()
        if how == "older" and self.old_keyrings:
            name, older = self.old_keyrings[pick % len(self.old_keyrings)]
            self._replace(name, older)
        elif how == "remove":
            self.take(name, partial(self._put_back, name, data))
            path.unlink()
        elif how == "cut":
            self._replace(name, data[: len(data) // 2])
        elif how == "line":
            self._replace(name, b"\n".join(data.split(b"\n")[:-2]) + b"\n")
        else:
            at = pick % len(data) if data else 0
            self._replace(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if data else b"x")

    def spoil(self, pick: int, how: str) -> None:
        """Remove or damage what waits in the node's own folder: there he may do what he likes."""
        waiting = sorted(
            path
            for path in (self.region.root / OWN).iterdir()
            if path.is_file() and path.name.replace("+", "/") not in self.made
        )
        path = self._pick(waiting, pick)
        if path is None or self.rights != "hand in":
            return
        self.spoils = True
        data, at = path.read_bytes(), path.stat().st_mtime
        if how == "remove":
            path.unlink()
        elif how == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif how == "swap":
            path.write_bytes(waiting[(pick + 1) % len(waiting)].read_bytes())
        elif data:
            place = pick % len(data)
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        if path.exists():
            os.utime(path, (at, at))

    def copy_keyrings(self) -> None:
        """Keep what keyrings hold now, to put it back some day."""
        for path in filter(Path.is_file, self.region.root.glob("keyrings/*/*")):
            self.old_keyrings.append((str(path.relative_to(self.region.root)), path.read_bytes()))

    def _replace(self, name: str, data: bytes) -> None:
        path = self.region.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.take(name, partial(self._put_back, name, path.read_bytes() if path.is_file() else None))
        path.write_bytes(data)
        os.utime(path, (self.region.time.now.timestamp(),) * 2)

    def named_in(self, message: str) -> list[Path]:
        """The files of his that a message names, and that are still there."""
        places = {path for name in self._names_in(message) for path in (self._path(name), self.region.root / name)}
        return sorted(path for path in places if path.is_file())

    def is_named_in(self, message: str) -> bool:
        """Whether a message names anything of his, by the end of its name: records go by these. What a keeper told may
        be what it removed as junk a moment later.
        """
        return bool(self._names_in(message))

    def _names_in(self, message: str) -> list[str]:
        lasts = {name: repr(name.rpartition("/")[2])[1:-1] for name in sorted(self.made)}
        spelt = message.encode("unicode_escape").decode()
        return [name for name, last in lasts.items() if last in message or last in spelt]

    def mend(self) -> None:
        """What operators do once it was noticed: put back what was moved, altered or removed."""
        while self.undo:
            self.undo.pop()()

    def _put_back(self, name: str, data: bytes | None) -> None:
        path = self.region.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            path.unlink(missing_ok=True)
            return
        path.write_bytes(data)
        os.utime(path, (self.region.time.now.timestamp(),) * 2)

    # ---- helpers

    def _path(self, name: str) -> Path:
        return self.region.root / (f"{OWN}/{flat(ObjectName(name))}" if self.rights == "hand in" else name)

    def _rival(self, exported: datetime) -> None:
        # One that is dated ahead is as honest people's when its time has come.
        if self.signing and self.region.time.now - exported <= LONGEST_RUN:
            self.rivals.append(exported)

    def honest_objects(self) -> list[str]:
        folders = ("ledger/", "keyrings/", "packs/", "snapshots/", "repository.json")
        return sorted(name for name in self.files() if name.startswith(folders) and name not in self.made)

    def files(self) -> set[str]:
        """Every file, under the name that it has or will have."""
        root = self.region.root
        found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.is_symlink()}
        return {name.removeprefix(f"{OWN}/").replace("+", "/") if name.startswith(OWN) else name for name in found}

    def _pick(self, found: list[Any], pick: int) -> Any:
        return found[pick % len(found)] if found else None

    def _listed(self, pick: int) -> list[tuple[Any, SegmentTags]]:
        generation = self.generation(pick)
        found: dict[Any, SegmentTags] = {}
        for path in sorted(self.region.root.glob(f"keyrings/{generation}/*.keyring")):
            with suppress(BackupdError):
                keyring: Keyring = self.region.repository.keyring(ObjectName(str(path.relative_to(self.region.root))))
                found |= dict(keyring.index)
        return sorted(found.items())

    def _put_keyring(
        self, pick: int, listed: list[tuple[Any, SegmentTags]], ago: timedelta, *, before: bool = False
    ) -> None:
        if not listed:
            return
        region, generation = self.region, self.generation(pick)
        run = RunId(f"{'20200101T000000Z' if before else compact(region.time.now)}-{self.new()}")
        ids = KeyringIds(region.repository_id, region.tags.region, generation, run)
        writer = KeyringWriter(ids, [region.identity.public])
        for pseudonym, tags in listed:
            writer.add(pseudonym, region.random(32), SegmentName(DATABASE, "uploaded", FORGED), tags)
        name = layout.keyring_name(generation, run)
        self.put(name, writer.render(stamp(region.time.now), self.signer), ago)
