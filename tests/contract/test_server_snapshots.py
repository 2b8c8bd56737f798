"""Each store shows the snapshots that its server makes as they are, or raises an error."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from doubles.servers.sshd import Sshd
from doubles.stores.objects import put

from backupd.clock import SystemClock
from backupd.errors import ObjectMissingError, StoreError
from backupd.store.base import ServerSnapshot
from backupd.store.sftp.store import SftpStore

NAME = "daily_2030-01-01"
SNAPSHOT = ServerSnapshot(NAME)


def listed(view, prefix=""):
    return sorted(info.name for info in view.list(prefix))


def cannot_look(make):
    """Each call of the view is an error, and none says that something is not there."""
    for call in (
        lambda: [*make().list("")],
        lambda: [*make().list("a")],
        lambda: make().get("a/one"),
        lambda: make().stat("a/one"),
    ):
        with pytest.raises(StoreError) as caught:
            call()
        assert not isinstance(caught.value, ObjectMissingError)


@pytest.fixture
def snapshots(store, root_of) -> Path:
    """The folder of the server's snapshots; one of them holds two objects the store had then."""
    put(store, "a/one", b"one, then")
    put(store, "a/deep/two", b"two, then")
    folder = root_of(store).parent / ".zfs" / "snapshot"
    shutil.copytree(root_of(store), folder / NAME / "be")
    return folder


@pytest.mark.usefixtures("snapshots")
def test_view_shows_what_was(store):
    """Objects that were removed or replaced since are seen as they were, and later ones are not."""
    store.remove("a/deep/two")
    store.replace("a/one", io.BytesIO(b"now"), 3, hashlib.sha256(b"now").hexdigest())
    put(store, "a/three", b"three")
    view = store.view(SNAPSHOT)
    assert listed(view) == ["a/deep/two", "a/one"]
    assert listed(view, "a/deep") == ["a/deep/two"]
    assert view.get("a/one") == b"one, then"
    assert view.get("a/deep/two", 1, 3) == b"wo,"
    assert (view.stat("a/one").name, view.stat("a/one").size) == ("a/one", 9)
    assert {info.size for info in view.list("")} == {9}
    assert listed(store) == ["a/one", "a/three"]


@pytest.mark.usefixtures("snapshots")
def test_absence_within_a_snapshot(store):
    """What was not there then has no stat, cannot be got and lists as nothing."""
    view = store.view(SNAPSHOT)
    assert view.stat("a/none") is None
    assert view.stat("none/none") is None
    assert view.stat("a") is None
    assert listed(view, "none") == []
    for name in ("a/none", "none/none"):
        with pytest.raises(ObjectMissingError):
            view.get(name)


def test_snapshot_without_the_regions_folder(store, snapshots):
    """A snapshot from before the region lists as nothing."""
    (snapshots / "daily_2029-12-31" / "fr" / "a").mkdir(parents=True)
    view = store.view(ServerSnapshot("daily_2029-12-31"))
    assert listed(view) == []
    assert view.stat("a/one") is None
    with pytest.raises(ObjectMissingError):
        view.get("a/one")


def test_snapshot_that_vanished(store, snapshots):
    """A snapshot destroyed since it was listed lists as nothing; the others are as they were."""
    shutil.copytree(snapshots / NAME, snapshots / "daily_2030-01-02")
    (view, other) = [store.view(shown) for shown in store.snapshots()]
    assert listed(view) == ["a/deep/two", "a/one"]
    shutil.rmtree(snapshots / NAME)
    assert listed(view) == []
    assert view.stat("a/one") is None
    with pytest.raises(ObjectMissingError):
        view.get("a/one")
    assert listed(other) == ["a/deep/two", "a/one"]


def test_snapshots_that_are_no_longer_shown(store, snapshots):
    """Where there is no folder of snapshots any more, nothing is known of any."""
    view = store.view(SNAPSHOT)
    shutil.rmtree(snapshots.parent)
    cannot_look(lambda: view)
    cannot_look(lambda: store.view(SNAPSHOT))


def test_links_in_a_snapshot(store, snapshots, tmp_path):
    """No symbolic link is followed: not below the region's folder, nor in its place, nor in the snapshot's."""
    outside = tmp_path / "outside"
    shutil.copytree(snapshots / NAME, outside)
    (snapshots / NAME / "be" / "a" / "link").symlink_to(outside / "be/a/one")
    (snapshots / NAME / "be" / "b").symlink_to(outside / "be/a")
    view = store.view(SNAPSHOT)
    assert listed(view) == ["a/deep/two", "a/one"]
    assert view.stat("a/link") is None
    for call in (lambda: view.get("a/link"), lambda: view.get("b/one"), lambda: [*view.list("b")]):
        with pytest.raises(StoreError):
            call()
    (snapshots / "daily_2030-01-02").mkdir()
    (snapshots / "daily_2030-01-02" / "be").symlink_to(outside / "be")
    (snapshots / "daily_2030-01-03").symlink_to(outside)
    for day in (2, 3):
        cannot_look(lambda day=day: store.view(ServerSnapshot(f"daily_2030-01-0{day}")))
    assert [shown.name for shown in store.snapshots()] == [NAME, "daily_2030-01-02"]


@pytest.mark.usefixtures("snapshots")
@pytest.mark.parametrize(
    "name", ["", ".", "..", "../be", "a/b", "/etc", "a\x00b", "a\nb", "a\\b", f"{NAME}/be", "x" * 600]
)
def test_names_no_snapshot_can_have(store, name):
    """A name that could lead elsewhere is refused before anything is looked at."""
    with pytest.raises(StoreError):
        store.view(ServerSnapshot(name))


@pytest.mark.usefixtures("snapshots")
@pytest.mark.parametrize("name", ["", "/etc/passwd", "../escape", "a/../../b", "a\x00b"])
def test_object_names_that_could_escape(store, name):
    """No object's name leads out of a snapshot."""
    view = store.view(SNAPSHOT)
    for call in (lambda: view.get(name), lambda: view.stat(name), lambda: [*view.list("../be")]):
        with pytest.raises(StoreError):
            call()


def test_snapshots_know_when_they_were_made(store, snapshots):
    """The name tells the day, however the snapshots are called; the oldest comes first."""
    for name in ("weekly_2029-12-24", "monthly_2030-01-02", "before-upgrade"):
        (snapshots / name).mkdir()
    assert [(shown.name, shown.made) for shown in store.snapshots()] == [
        ("before-upgrade", None),
        ("weekly_2029-12-24", datetime(2029, 12, 24, tzinfo=UTC)),
        (NAME, datetime(2030, 1, 1, tzinfo=UTC)),
        ("monthly_2030-01-02", datetime(2030, 1, 2, tzinfo=UTC)),
    ]


@pytest.mark.usefixtures("snapshots")
@pytest.mark.parametrize("store", ["sftp", "pyssh"], indirect=True)
def test_absolute_root_below_the_home(store, root_of):
    """An absolute path that the server places in the account's home is found in the home's snapshots."""
    home = root_of(store).parent
    absolute = SftpStore(dataclasses.replace(store.target, path=str(home)), SystemClock())
    assert listed(absolute.view(SNAPSHOT)) == ["a/deep/two", "a/one"]
    absolute.close()


@pytest.mark.parametrize("path", ["/elsewhere", "../other", "a/../../other"])
def test_root_outside_the_home(sshd, target_of, path, tmp_path):
    """Nothing is known of a folder that is not in the account's home, so nothing is said."""
    (sshd.home / ".zfs/snapshot" / NAME).mkdir(parents=True)
    where = str(tmp_path) + path if path.startswith("/") else path
    store = SftpStore(target_of(sshd, path=where), SystemClock())
    cannot_look(lambda: store.view(SNAPSHOT))
    store.close()


def test_snapshot_that_may_not_be_entered(target_of):
    """A snapshot the account cannot read is an error, not an empty one."""
    with Sshd(unprivileged=True) as account:
        store = SftpStore(target_of(account), SystemClock())
        inside = account.home / ".zfs/snapshot" / NAME / "be" / "a"
        inside.mkdir(parents=True)
        (inside / "one").write_bytes(b"one")
        for closed in (inside.parent.parent, inside.parent, inside):
            closed.chmod(0)
            with pytest.raises(StoreError):
                [*store.view(SNAPSHOT).list("")]
            closed.chmod(0o755)
        assert listed(store.view(SNAPSHOT)) == ["a/one"]
        store.close()
