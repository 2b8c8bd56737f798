"""The probe finds out what a store can do by trying it, on each adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.servers.sshd import APPEND_ONLY, Sshd

from backupd.clock import SystemClock
from backupd.errors import StoreError
from backupd.store.probe import probe
from backupd.store.sftp.store import SftpStore


def test_directory_profile(directory_store):
    """A folder syncs, tells its space, has no commands and no server that could refuse a removal."""
    profile = probe(directory_store)
    assert (profile.adapter, profile.rename, profile.fsync, profile.statvfs) == ("directory", "no-clobber", True, True)
    assert (profile.hash, profile.snapshots, profile.append_only) == (None, None, False)


def test_probe_leaves_nothing_behind(store):
    """The store is as empty as before."""
    probe(store)
    assert [*store.list("")] == []


@pytest.mark.parametrize(
    ("dialect", "command", "algorithm"),
    [("bsd", "sha256", "sha256"), ("gnu", "sha256sum", "sha256"), ("weak", "md5", "md5")],
)
def test_hash_commands_are_found(dialect, command, algorithm, target_of):
    """The strongest command whose answer is right is taken, by whatever name the server has it."""
    with Sshd(dialect=dialect) as account:
        store = SftpStore(target_of(account), SystemClock())
        profile = probe(store)
        store.close()
    assert (profile.hash.command, profile.hash.algorithm) == (command, algorithm)


@pytest.mark.parametrize("dialect", ["liar", "none"])
def test_wrong_or_absent_hash_commands_are_not(dialect, target_of):
    """A command whose answer is wrong is as good as none."""
    with Sshd(dialect=dialect) as account:
        store = SftpStore(target_of(account), SystemClock())
        assert probe(store).hash is None
        store.close()


def test_sftp_profile(sftp_store, sshd):
    """OpenSSH is seen as it is, snapshots included once there are some."""
    profile = probe(sftp_store)
    assert (profile.adapter, profile.fsync, profile.statvfs, profile.append_only) == ("sftp", True, True, False)
    assert profile.max_write > 200_000
    assert profile.snapshots is None
    (sshd.home / ".zfs/snapshot/daily_2030-01-01").mkdir(parents=True)
    assert probe(sftp_store).snapshots == ".zfs/snapshot"


def test_append_only_is_seen(target_of):
    """A server that refuses removing and overwriting is known as one; the probe's leftovers stay in tmp/."""
    with Sshd(dialect="sealed", flags=APPEND_ONLY, unprivileged=True) as account:
        store = SftpStore(target_of(account), SystemClock())
        assert probe(store).append_only
        assert all(info.name.startswith("tmp/") for info in store.list(""))
        store.close()


@pytest.mark.parametrize(
    ("dialect", "flags"),
    [
        ("sealed", "-P remove,rmdir,posix-rename"),
        ("sealed", APPEND_ONLY.replace("remove,", "")),
        ("none", APPEND_ONLY),
    ],
)
def test_any_way_round_it_is_seen(dialect, flags, target_of):
    """One of chmod, remove or a shell with `rm` is enough for a thief, so the store is not append-only."""
    with Sshd(dialect=dialect, flags=flags) as account:
        store = SftpStore(target_of(account), SystemClock())
        assert not probe(store).append_only
        store.close()


@pytest.mark.parametrize("allowed", ["remove", "posix-rename", "setstat", "fsetstat", "lsetstat"])
def test_every_request_that_must_be_denied_is_tried(target_of, allowed):
    """With any single one of them granted, a server's `internal-sftp` is not append-only."""
    server = Sshd(unprivileged=True)
    with server:
        for flags, held in (
            (APPEND_ONLY, True),
            (APPEND_ONLY.replace(f" {allowed},", " ").replace(f",{allowed},", ","), False),
        ):
            store = SftpStore(target_of(server.add_key(flags)), SystemClock())
            assert probe(store).append_only is held
            store.close()


def test_store_whose_rename_overwrites_is_refused(directory_store, tmp_path: Path):
    """Publishing by rename is safe on no such store, so there is no profile of it."""

    class Clobbering(type(directory_store.workbench())):
        def rename(self, old, new):
            self._path(old).replace(self._path(new))

    directory_store.workbench = lambda: Clobbering(directory_store.root, None)
    with pytest.raises(StoreError, match="overwrites"):
        probe(directory_store)
    assert [*directory_store.list("")] == []
