"""What a run relies on, compared with what a store holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from doubles.stores.small_repository import Content, SmallRepository, facts

from backupd.model.ids import ObjectName, RunId
from backupd.model.tenancy import SegmentName
from backupd.operations.backup.stored_objects import list_keyrings, missing_keyrings
from backupd.repository import layout
from backupd.store.directory import DirectoryStore


def gone(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    """What a disk leaves of a file that it had not written when the power went."""
    path.chmod(0o600)
    path.write_bytes(b"")


@pytest.mark.parametrize("lose", [gone, emptied])
def test_a_keyring_that_is_gone_or_empty_is_missing(directory_store: DirectoryStore, lose: Any) -> None:
    """By the listing, and where that does not show it, by name: it may have been put anew meanwhile."""
    small = SmallRepository(directory_store)
    small.snapshot({SegmentName("app", "structure", None): Content(facts=facts())})
    (ring,) = (info.name for info in small.store.list(layout.keyrings_folder(small.generation)))
    run = layout.place_of(ObjectName(ring)).run
    assert run is not None
    runs = SimpleNamespace(published_keyrings=lambda: {run})
    ground = cast(
        "Any",
        SimpleNamespace(
            index=SimpleNamespace(runs=runs),
            generation=SimpleNamespace(id=small.generation),
            repository=small.repository,
        ),
    )
    listed = list_keyrings(small.repository, small.generation)
    assert (listed, missing_keyrings(ground, listed)) == (frozenset({run}), ())
    assert missing_keyrings(ground, frozenset[RunId]()) == ()
    lose(directory_store.root / ring)
    assert missing_keyrings(ground, list_keyrings(small.repository, small.generation)) == (run,)
