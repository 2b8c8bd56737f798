"""A small repository of two generations under verification, for tests that change something about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from doubles.stores.small_repository import Content, Rows, SmallRepository, facts
from fix_clock import TickingClock

from backupd.model.documents import Record
from backupd.model.tenancy import SegmentName
from backupd.operations.verify import Scope, Tools, Verification, verify
from backupd.repository.packs import OpenPack
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
ALL = Fraction(1)


def rows(number: int, word: str = "row") -> Rows:
    return Rows("public", "t", ("id", "text"), tuple(b"%d\t%s\n" % (at, word.encode()) for at in range(number)))


class Checker:
    """Two generations, three snapshots, packs of several sections, a table that stays as it was."""

    def __init__(self, folder: Path, fill: Callable[[SmallRepository], object] | None = None) -> None:
        self.scratch = folder / "scratch"
        self.scratch.mkdir(parents=True)
        self.root = folder / "store"
        self.clock = TickingClock()
        self.small = SmallRepository(DirectoryStore(self.root))
        self.reading: Store = self.small.store
        self.tags: TenantTags | None = self.small.tags
        self.threads = 2
        (fill or self.two_generations)(self.small)

    @staticmethod
    def two_generations(small: SmallRepository) -> None:
        still = Rows("public", "still", ("id",), (b"1\n", b"2\n"))
        shared = Content((still, rows(30)), {"ddl": b"some ddl" * 20}, (("public", "s", 1, True),), facts())
        small.snapshot({SHARED: shared, ACME: Content((rows(20, "acme"),), apart=False)})
        small.snapshot({SHARED: replace(shared, tables=(still, rows(40))), ACME: Content((rows(25, "acme"),))})
        small.start_generation()
        small.snapshot({SHARED: shared, ACME: Content((rows(300, "acme"),), chunk=4000)})

    def run(self, *, share: Fraction = ALL, opened: bool = False, store: str | None = None) -> Verification:
        identity = self.small.identity.secret if opened else None
        repository = Repository(self.reading, [self.small.signer.public])
        with CheckedState(self.scratch / "verified.sqlite") as checked:
            tools = Tools(self.clock, self.scratch, threads=self.threads, store=store, tags=self.tags)
            return verify(repository, checked, Scope(share, identity), tools)

    def objects(self, pattern: str) -> list[Path]:
        return sorted(self.root.glob(pattern))

    def packs(self) -> list[OpenPack]:
        """All packs of all generations."""
        repository = self.small.repository
        generations = [path.name for path in self.objects("packs/*")]
        return [repository.pack(one, sha256) for one in generations for sha256 in repository.list_packs(one)]

    def records(self) -> list[Record]:
        """All records, oldest first."""
        return [self.small.repository.record(name) for name in self.small.repository.snapshots()]

    def rewrite(self, path: Path, change: Callable[[bytes], bytes]) -> None:
        path.chmod(0o600)
        path.write_bytes(change(path.read_bytes()))
