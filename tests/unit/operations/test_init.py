"""Making repositories: on empty stores only, one per region, finished by whoever runs it again."""

import io
import itertools
import os
from dataclasses import replace
from hashlib import sha256

import pytest

from backupd.errors import RefusedError, StoreGoneError
from backupd.model.ids import ObjectName, RegionName
from backupd.operations.init import Founder, NamedStore, initialise
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.store.directory import DirectoryStore
from backupd.store.forwarding import ForwardingStore

BE = RegionName("be")


@pytest.fixture
def founder(ticking_clock):
    counter = itertools.count(1)
    return Founder(
        signer=Signer(os.urandom(32)),
        trusted=("ab" * 32,),
        clock=ticking_clock,
        random=lambda size: next(counter).to_bytes(size, "big"),
    )


@pytest.fixture
def places(tmp_path):
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    return [NamedStore(name, DirectoryStore(tmp_path / name / "be")) for name in ("near", "far")]


def put(place, name, data):
    place.store.put_new(ObjectName(name), io.BytesIO(data), len(data), sha256(data).hexdigest())


def names(place):
    return sorted(found.name for found in place.store.list(ObjectName("")))


def test_every_store_of_a_region_gets_the_same_signed_repository_and_the_help(places, founder):
    """Either store alone is enough to read the region's backups, with what lies beside them."""
    made = initialise(BE, places, founder)

    infos = [Repository(place.store, {founder.signer.public}).info() for place in places]
    assert [names(place) for place in places] == [["RECOVER.md", "recover", "repository.json"]] * 2
    assert {info.repository for info in infos} == {made[0].repository}
    assert infos[0].signers == sorted(["ab" * 32, founder.signer.public])
    assert (infos[0].profile["adapter"], infos[0].profile["rename"]) == ("directory", "no-clobber")
    assert [(one.store, one.created) for one in made] == [("near", True), ("far", True)]
    helps = {name: sha256(places[0].store.get(name)).hexdigest() for name in ("RECOVER.md", "recover")}
    assert [info.help for info in infos] == [one.help for one in made] == [helps] * 2


def test_a_second_init_is_refused_and_changes_nothing(places, founder):
    """An existing repository is never made again."""
    initialise(BE, places, founder)
    before = places[0].store.get(layout.REPOSITORY)

    with pytest.raises(RefusedError, match='region "be" is initialised on "near", "far"'):
        initialise(BE, places, founder)

    assert places[0].store.get(layout.REPOSITORY) == before


def test_an_init_says_which_keeper_the_repository_does_not_name(places, founder):
    """One that joined the configuration after the first init; without its key, nobody can follow its ledger."""
    (made,) = initialise(BE, places[:1], founder)
    assert made.unnamed_keepers == ()
    keeper = "cd" * 32
    later = replace(founder, keepers=(keeper,))

    joined = initialise(BE, places, later)
    assert [one.unnamed_keepers for one in joined] == [(keeper,), ()]

    with pytest.raises(RefusedError, match="is initialised on") as caught:
        initialise(BE, places, later)
    assert f"does not name the keeper {keeper}" in caught.value.hint
    assert "--keeper" in caught.value.hint


def test_a_store_added_later_joins_the_repository(places, founder):
    """Its id is the region's, and the store that had it is left alone."""
    first = initialise(BE, places[:1], founder)

    both = initialise(BE, places, founder)

    assert {one.repository for one in both} == {first[0].repository}
    assert [one.created for one in both] == [False, True]


@pytest.mark.parametrize("name", ["photos/cat.jpg", "packs/x", "repository.json.bak"])
def test_a_folder_with_anything_else_is_refused_before_anything_is_written(places, founder, name):
    """Somebody else's files are neither joined nor touched, on no store."""
    put(places[1], name, b"theirs")

    with pytest.raises(RefusedError, match='store "far" holds other files'):
        initialise(BE, places, founder)

    assert [names(place) for place in places] == [[], [name]]


def test_a_repository_of_a_signer_we_do_not_trust_is_foreign(places, founder, ticking_clock):
    """Whoever planted it does not get our backups."""
    stranger = Founder(Signer(os.urandom(32)), (), ticking_clock, founder.random)
    initialise(BE, places[:1], stranger)

    with pytest.raises(RefusedError, match='store "near" holds a repository that was not made by a signer we trust'):
        initialise(BE, places, founder)

    assert names(places[1]) == []


def test_another_regions_folder_is_not_taken(places, founder):
    """A moved folder is noticed."""
    initialise(RegionName("fr"), places[:1], founder)

    with pytest.raises(RefusedError, match='the repository of region "fr" where that of "be" belongs'):
        initialise(BE, places, founder)


def test_two_repositories_cannot_serve_one_region(places, founder):
    """Stores initialised apart are not mixed."""
    for place in places:
        initialise(BE, [place], founder)

    with pytest.raises(RefusedError, match="hold different repositories"):
        initialise(BE, places, founder)


class CutAt(ForwardingStore):
    """A store whose connection breaks at the n-th object put."""

    def __init__(self, inner, puts):
        super().__init__(inner)
        self._left = puts

    def put_new(self, *arguments):
        if self._left == 0:
            raise StoreGoneError("connection lost")
        self._left -= 1
        super().put_new(*arguments)

    def workbench(self):
        return self.inner.workbench()


@pytest.mark.parametrize("puts", range(6))
def test_an_init_that_was_cut_off_is_finished_by_the_next(places, founder, puts):
    """Wherever it stopped, the region ends up with one whole repository."""
    for place in places:
        put(place, "tmp/leftover", b"half an upload")
    cut = [
        NamedStore("near", CutAt(places[0].store, puts)),
        NamedStore("far", CutAt(places[1].store, max(0, puts - 3))),
    ]
    with pytest.raises(StoreGoneError):
        initialise(BE, cut, founder)

    initialise(BE, places, founder)

    infos = [Repository(place.store, {founder.signer.public}).info() for place in places]
    assert infos[0].repository == infos[1].repository
    assert all(place.store.stat(layout.SCRIPT) for place in places)
