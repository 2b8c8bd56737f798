"""`backupd store accept` ends the alarm about a change that was wanted, and names who joined after `init`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fix_nodes import NodeFolder, on_terminal
from fix_postgres import Database

from backupd.model.answers import StatusAnswer
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import write_signer
from backupd.store.directory import DirectoryStore


@pytest.fixture
def node(pg17: object, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)")
    return node_of(database)


def codes(node: NodeFolder) -> list[str]:
    answer = msgspec.convert(json.loads(node.run("status", "--probe", "--json").stdout), StatusAnswer)
    return [alarm.code.value for alarm in answer.alarms]


def say_otherwise(node: NodeFolder, **profile: Any) -> None:
    """Have the repository say that its store could do something else when it was made."""
    repository = node.repository()
    info = msgspec.structs.replace(repository.info(), profile=repository.info().profile | profile)
    repository.store.remove("repository.json")  # any name will do
    repository.put_info(info, node.signer)


def test_a_wanted_change_is_accepted(node: NodeFolder) -> None:
    """The alarm names the command; after it the alarm is over, and the repository has the reason."""
    say_otherwise(node, snapshots=".zfs/snapshot")
    assert "capability-changed" in codes(node)
    done = node.run("store", "accept", "disk", "--reason", "OPS-311")
    assert done.returncode == 0, done.stderr
    assert b"be on disk: accepted\n  snapshots: was .zfs/snapshot, now no\n" in done.stdout
    assert "capability-changed" not in codes(node)
    assert node.repository().info().extra["accepted"][0]["reason"] == "OPS-311"
    assert b"nothing to accept" in node.run("store", "accept", "disk", "--reason", "OPS-312").stdout


def test_a_signer_who_joined_is_named(node: NodeFolder) -> None:
    """Until then `status` warns; afterwards whoever has the store alone believes it."""
    other = write_signer(node.node / "other.key")
    config = node.node / "backupd.toml"
    config.write_text(config.read_text().replace('signers = ["', f'signers = ["{other.public}", "'))
    alone = Repository(DirectoryStore(node.folder / "disk" / "be"), None)
    assert other.public not in alone.signers
    assert "signer-unnamed" in codes(node)
    node.json("store", "accept", "disk", "--reason", "OPS-311")
    assert "signer-unnamed" not in codes(node)
    assert other.public in Repository(DirectoryStore(node.folder / "disk" / "be"), None).signers


def test_what_would_be_accepted_is_shown_and_asked_for(node: NodeFolder) -> None:
    """Dry it changes nothing, on a terminal only a yes does, and without a change nobody is asked."""
    say_otherwise(node, snapshots=".zfs/snapshot")
    accept = ("store", "accept", "disk", "--reason", "OPS-311")
    assert b"would be accepted\n  snapshots: was .zfs/snapshot, now no\n" in node.run(*accept, "--dry-run").stdout
    status, text = on_terminal(node, "\n", *accept)
    assert (status, "would be accepted" in text, "nothing was changed" in text) == (10, True, True), text
    assert "accepted" not in node.repository().info().extra
    assert on_terminal(node, "y\n", *accept)[0] == 0
    assert on_terminal(node, "\n", *accept)[0] == 0


def test_signing_and_putting_may_be_apart(node: NodeFolder) -> None:
    """Nothing changes before the document is put, and a forged one is refused."""
    say_otherwise(node, snapshots=".zfs/snapshot")
    arguments = ("store", "accept", "disk", "--region", "be", "--reason", "OPS-311")
    node.json(*arguments, "--write", "signed.json")
    assert "capability-changed" in codes(node)
    forged = Signer(b"x" * 32).sign((node.folder / "signed.json").read_bytes().partition(b"\n")[0], "repository")
    (node.folder / "forged.json").write_bytes(forged)
    assert node.run(*arguments, "--from", "forged.json").returncode == 7
    assert "capability-changed" in codes(node)
    node.json(*arguments, "--from", "signed.json")
    assert "capability-changed" not in codes(node)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("disk", "--reason", "because Ann said so"), 2),
        (("cellar", "--reason", "OPS-1"), 2),
        (("disk", "--reason", "OPS-1", "--write", "a", "--from", "b"), 2),
        (("disk", "--reason", "OPS-1", "--from", "missing.json"), 3),
    ],
)
def test_what_makes_no_sense_is_refused(node: NodeFolder, arguments: tuple[str, ...], status: int) -> None:
    """A name is no reference, and nothing is written."""
    before = (node.folder / "disk" / "be" / "repository.json").read_bytes()
    assert node.run("store", "accept", *arguments).returncode == status
    assert (node.folder / "disk" / "be" / "repository.json").read_bytes() == before


def test_what_root_does_by_hand_leaves_the_service_its_folders(node: NodeFolder) -> None:
    """The order of the README: root makes the repository, then a service runs as the folder's owner, who is another."""
    state, owner = node.node / "state", 65534 if os.getuid() == 0 else os.getuid()
    state.mkdir(exist_ok=True)
    os.chown(state, owner, -1)
    node.run("status")
    found = list(state.rglob("*"))
    assert found
    assert {path.lstat().st_uid for path in found} == {owner}
