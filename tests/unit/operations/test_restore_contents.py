"""What of a snapshot is read, with some of it purged, expired, or gone for no reason; PostgreSQL has no part in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path

import pytest
from doubles.stores.hooked_store import HookedStore
from doubles.stores.small_repository import START, Content, Rows, SmallRepository, facts
from fix_regions import Events

from backupd.clock import SystemClock
from backupd.errors import BusyError, DamageError, ObjectMissingError, RefusedError, UsageError
from backupd.model.ids import ObjectName, Pseudonym
from backupd.model.ledger import ClassExpired
from backupd.model.tenancy import SegmentName
from backupd.model.text import stamp
from backupd.operations.drill.checks.integrity import check_authentic
from backupd.operations.restore import RestoreEnvironment, RestoreRequest
from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.contents import SnapshotContents
from backupd.operations.restore.opened_choice import OpenedChoice
from backupd.operations.restore.run import _warn_of_objects
from backupd.planning.selection import Selection
from backupd.postgres.connect import Source
from backupd.repository import sections
from backupd.repository.repository import Repository
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.trace import Warned

STRUCTURE = SegmentName("app", "structure", None)
SHARED = SegmentName("app", "uploaded", None)
ACME, GLOBEX = (SegmentName("app", "uploaded", tenant) for tenant in ("acme", "globex"))
LOGS = SegmentName("app", "logs", "acme")
LATER = stamp(START.replace(year=2031))


def rows(table: str, *lines: str, own: bool = False) -> Content:
    return Content((Rows("public", table, ("id", "t"), tuple(f"{line}\n".encode() for line in lines), own),))


CONTENT = {
    STRUCTURE: Content(files={"ddl-head": b"head"}, facts=facts()),
    SHARED: rows("country", "1\tBE"),
    ACME: rows("note", *(f"{number}\tacme" for number in range(40))),
    GLOBEX: rows("note", *(f"{number}\tglobex" for number in range(50, 70))),
    LOGS: rows("log", "7\tlong ago", own=True),
}


@pytest.fixture
def small(directory_store: DirectoryStore) -> SmallRepository:
    made = SmallRepository(directory_store)
    made.snapshot(CONTENT)
    return made


class Watching(HookedStore):
    """Remembers name, offset and length of everything that is read."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.asked: list[tuple[str, int, int]] = []

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        data = super().get(name, offset, length)
        self.asked.append((name, offset, len(data)))
        return data


def chosen(
    small: SmallRepository, selection: Selection | None = None, store: HookedStore | None = None
) -> OpenedChoice:
    repository = Repository(store or small.store, [small.signer.public])
    environment = RestoreEnvironment(small.identity.secret, SystemClock(), Events(), os.urandom, store="disk")
    request = RestoreRequest("app", "latest", Source("nowhere"), "new", selection=selection or Selection())
    return choose(request, repository, environment, read_history(repository, environment))


def read(small: SmallRepository, choice: OpenedChoice, store: HookedStore | None = None) -> dict[str, list[str]]:
    """All rows that a restore would load, by table and in order of their lines."""
    found: dict[str, list[str]] = {}
    repository = Repository(store or small.store, [small.signer.public])
    with SnapshotContents(repository, choice, 2) as contents:
        plan = contents.plan(exact=choice.exact)
        assert contents.file(plan, "ddl-head") == [b"head"]
        for bundles in plan.passes:
            for piece, data in contents.rows(piece for bundle in bundles for piece in bundle):
                found.setdefault(plan.tables[piece.table].name, []).append(bytes(data).decode())
    return {name: sorted("".join(pieces).splitlines()) for name, pieces in found.items()}


def expected(*names: SegmentName) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        for table in CONTENT[name].tables:
            found.setdefault(table.table, []).extend(row.decode().rstrip("\n") for row in table.rows)
    return {table: sorted(lines) for table, lines in found.items()}


def test_everything_is_read(small: SmallRepository) -> None:
    """Tables by the definitions of the database and of a tenant's own schema; a later run refers to what is there."""
    small.snapshot({**CONTENT, SHARED: rows("country", "1\tBE", "2\tCH")})
    choice = chosen(small)
    assert choice.exact
    assert len(choice.segments) == 6  # acme's own definitions are a segment, too
    assert read(small, choice) == {**expected(ACME, GLOBEX, LOGS), "country": ["1\tBE", "2\tCH"]}


@pytest.mark.parametrize("apart", [True, False], ids=["rows apart", "rows with manifests"])
def test_nothing_is_fetched_twice(
    directory_store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, apart: bool
) -> None:
    """Also where a section has the manifest and rows, and memory is short: it is held until these are wanted."""
    monkeypatch.setattr(sections, "weight_of", lambda _: 1 << 30)
    small = SmallRepository(directory_store)
    small.snapshot({name: replace(content, apart=apart) for name, content in CONTENT.items()})
    store = Watching(small.store)
    choice = chosen(small, store=store)
    store.asked.clear()
    assert read(small, choice, store) == expected(SHARED, ACME, GLOBEX, LOGS)
    fetched = sum(length for _, _, length in store.asked)
    assert fetched == sum(section.row.length for section in choice.sections.sections.values())


def test_where_nothing_can_be_held_it_is_fetched_again(small: SmallRepository, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk for temporary files is no reason to fail."""

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "no space")

    monkeypatch.setattr(sections, "write_all", full)
    assert read(small, chosen(small)) == expected(SHARED, ACME, GLOBEX, LOGS)


def test_one_tenant_reads_its_own_sections_only(small: SmallRepository) -> None:
    """Beside those that are shared, and the structure. Headers are read with what lies behind them."""
    store = Watching(small.store)
    choice = chosen(small, Selection(frozenset({"globex"})), store)
    store.asked.clear()
    assert read(small, choice, store) == expected(SHARED, GLOBEX)
    theirs = [section for (one, _), section in choice.sections.sections.items() if one not in choice.segments]
    assert len(theirs) > 3
    for section in theirs:
        for name, offset, length in store.asked:
            apart = offset + length <= section.offset or section.offset + section.row.length <= offset
            assert name != section.pack.name or apart


def test_a_purged_tenant_is_left_out(small: SmallRepository) -> None:
    """While its sections are there, and when they are gone."""
    own = SegmentName("app", "structure", "acme")
    small.tell(small.purge_began(ACME, LOGS, own))
    for _ in range(2):
        choice = chosen(small)
        assert (choice.purged, choice.exact) == (3, False)
        assert read(small, choice) == expected(SHARED, GLOBEX)
        small.take_out(ACME, LOGS, own)
    with pytest.raises(UsageError, match="holds nothing of 1 of 1 tenant asked for"):
        chosen(small, Selection(frozenset({"acme"})))


def test_rows_whose_own_schema_was_purged_are_left_out(small: SmallRepository) -> None:
    """A class of data may be kept for longer than the tenant's schema; there is no table to put its rows into.

    The same rows without a purge's word for it are damage.
    """
    own = SegmentName("app", "structure", "acme")
    small.tell(small.purge_began(ACME, own))
    small.take_out(ACME, own)
    choice = chosen(small)
    assert choice.undefined == {small.pseudonym(LOGS)}
    assert read(small, choice) == expected(SHARED, GLOBEX)
    with pytest.raises(DamageError, match="speaks of a table that the snapshot does not define"):
        read(small, replace(choice, undefined=frozenset()))


def test_a_class_that_expired_is_left_out_where_it_is_gone(small: SmallRepository) -> None:
    """What is still there is restored."""
    tag = small.tags_of(LOGS).data_class
    small.tell(ClassExpired(store="disk", generation=small.generation, class_tag=tag, before=LATER))
    assert read(small, chosen(small)) == expected(SHARED, ACME, GLOBEX, LOGS)
    small.take_out(LOGS, keys=False)
    choice = chosen(small)
    assert choice.aged == 1
    assert read(small, choice) == expected(SHARED, ACME, GLOBEX)


def damages() -> dict[str, tuple[Callable[[SmallRepository, Path], object], str]]:
    def unlink(folder: str) -> Callable[[SmallRepository, Path], object]:
        return lambda _, root: [path.unlink() for path in (root / folder).rglob("*") if path.is_file()]

    return {
        "sections": (lambda small, _: small.take_out(ACME, keys=False), r"' of segment .* is missing"),
        "keys": (lambda small, _: small.take_out(ACME, objects=False), "no ledger says it was purged"),
        "packs": (unlink("packs"), "and a record names it"),
        "keyrings": (unlink("keyrings"), "has no keyring"),
    }


@pytest.mark.parametrize("case", damages())
def test_what_nothing_explains_is_damage(small: SmallRepository, root_of: Callable[..., Path], case: str) -> None:
    """Also when another tenant's purge explains that something is gone."""
    damage, why = damages()[case]
    small.tell(small.purge_began(GLOBEX))
    damage(small, root_of(small.store))
    with pytest.raises(DamageError, match=why):
        chosen(small)


def test_keyrings_that_disagree_on_a_name_are_damage(small: SmallRepository) -> None:
    """Each section's own keyring speaks of its segment, and must say what the manifest's says."""
    choice = chosen(small)
    other = replace(choice, names={**choice.names, small.pseudonym(ACME): GLOBEX})
    with pytest.raises(DamageError, match="do not agree on the name of segment"):
        read(small, other)


def test_a_purge_that_begins_while_a_restore_is_planned_is_obeyed(small: SmallRepository) -> None:
    """The ledger was read before it: what is missing by then is looked up in it again before it is called damage."""
    where: list[str] = []

    def purge(method: str, name: str) -> None:
        if method == "get" and name.startswith("keyrings/") and not where:
            where.append(name)
            small.tell(small.purge_began(ACME, LOGS))
            small.take_out(ACME, LOGS)

    store = HookedStore(small.store, before=purge)
    choice = chosen(small, store=store)
    assert where
    assert choice.purged == 2
    assert read(small, choice) == expected(SHARED, GLOBEX)


def test_what_a_keeper_removes_while_it_is_read_is_no_damage(small: SmallRepository, tmp_path: Path) -> None:
    """A restore that comes too late for it has to begin again; a drill leaves it out; nothing else is excused."""
    repository = Repository(small.store, [small.signer.public])
    environment = RestoreEnvironment(small.identity.secret, SystemClock(), Events(), os.urandom, store="disk")
    history = read_history(repository, environment)
    choice = choose(RestoreRequest("app", "latest", Source("nowhere"), "new"), repository, environment, history)
    small.tell(small.purge_began(GLOBEX))
    small.take_out(GLOBEX)
    with pytest.raises(BusyError, match="while it was read") as busy, history.beside_keepers():
        read(small, choice)
    assert "Run it again" in busy.value.hint

    assert check_authentic(repository, choice, tmp_path, history=history)[0].verdict == "pass"
    small.take_out(ACME)
    (code,) = check_authentic(repository, choice, tmp_path, history=history)[0].findings
    assert code.code == "object-missing"
    with pytest.raises((DamageError, ObjectMissingError)), history.beside_keepers():
        read(small, choice)


def test_nothing_is_left_when_everything_was_purged(small: SmallRepository) -> None:
    """That is refused, and not called damage; the packs' headers still say whose they were."""
    everything = [*CONTENT, SegmentName("app", "structure", "acme")]
    small.tell(small.purge_began(*everything))
    small.take_out(*everything)
    with pytest.raises(RefusedError, match=r"everything in snapshot .* was purged"):
        chosen(small)


def test_a_section_in_another_place_of_its_keyring_is_refused(small: SmallRepository) -> None:
    """A header that names another segment's key is not believed, though it has the hash of its name."""
    choice = chosen(small)
    row = choice.sections.manifests[small.pseudonym(ACME)].row
    with pytest.raises(DamageError, match="where a pack says"):
        choice.keys.of(row._replace(place=row.place + 1))
    assert Pseudonym(row.segment) == small.pseudonym(ACME)


def test_what_cannot_be_made_without_something_left_out_is_named() -> None:
    """Five of them, and neither privileges nor comments; nothing is said where nothing was left out."""
    trace = Events()
    _warn_of_objects([], trace)
    assert not trace.seen
    _warn_of_objects([("ACL", "TABLE v0"), *(("VIEW", f"v{number}") for number in range(7))], trace)
    (said,) = trace.seen
    assert isinstance(said, Warned)
    assert said.message.endswith("left out: VIEW v0, VIEW v1, VIEW v2, VIEW v3, VIEW v4, 2 more")
    _warn_of_objects([("USER MAPPING", "USER MAPPING marker SERVER far"), ("SCHEMA", "marker")], trace)
    assert "marker" not in repr(trace.seen)
