"""Keys in daily life, as ops give the commands, on a node that is also its keeper."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from doubles.paths import RECOVER
from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.seal import keyfiles, suite
from backupd.seal.keyfiles import read_signer

PASSPHRASE = "an old passphrase"


@pytest.fixture
def kept(pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    """A node that keeps its region, and the identities of its one recipient and of another."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 3 FROM generate_series(1, 300) g",
    )
    node = node_of(database)
    node.become_keeper()
    (node.folder / "passphrase").write_text(PASSPHRASE + "\n")
    keyfiles.write_identity(node.folder / "old.identity", "old", node.pair, PASSPHRASE)
    pair = suite.generate()
    keyfiles.write_identity(node.folder / "new.identity", "new", pair, PASSPHRASE)
    keyfiles.write_recipient(node.node / "new.recipient", keyfiles.Recipient("new", pair.public))
    node.json("backup")
    return node


def keyrings(node: NodeFolder) -> int:
    """How many there are: one for each worker that added something, which depends on who was quicker."""
    return len(list((node.folder / "disk").rglob("*.keyring")))


def opened(node: NodeFolder, name: str) -> int:
    """Exit status of the check whether an identity opens everything."""
    return node.run("key", "check", "--identity", name, "--passphrase-file", "passphrase").returncode


def recover(node: NodeFolder, name: str) -> int:
    """Exit status of the stand-alone script, to which the ledger's new events are no surprise."""
    script = [sys.executable, RECOVER, node.folder / "disk" / "be", "--identity", name]
    keeper = read_signer(node.node / "keeper.key").public
    options = ["--passphrase-file", "passphrase", "--out", f"out-{name}", "--keeper", keeper]
    return subprocess.run([*script, *options], cwd=node.folder, capture_output=True, check=False).returncode


def test_recipients_are_exchanged(kept: NodeFolder) -> None:
    """By three lines: the configuration, a backup, a rotation; afterwards the old identity opens nothing."""
    config = kept.node / "backupd.toml"
    old = keyrings(kept)
    config.write_text(config.read_text().replace("ops.recipient", "new.recipient"))
    kept.json("backup")
    both = keyrings(kept)
    assert (opened(kept, "old.identity"), opened(kept, "new.identity")) == (8, 8)
    (dry,) = kept.json("key", "rotate", "be", "--dry-run")["stores"]
    assert (dry["dry_run"], dry["rekeying"]["rekeyed"], dry["rekeying"]["already"]) == (True, old, both - old)
    rotate = ("key", "rotate", "--identity", "old.identity", "--passphrase-file", "passphrase")
    (done,) = kept.json(*rotate)["stores"]
    assert (done["store"], done["rekeying"]["rekeyed"], done["rekeying"]["keyrings"]) == ("disk", old, both)
    assert (opened(kept, "old.identity"), opened(kept, "new.identity")) == (8, 0)
    told = kept.json("ledger", "show", "be")
    assert [event["event"] for entry in told["entries"] for event in entry["events"]][-2:] == ["rekey-began", "rekeyed"]
    again = kept.run(*rotate)
    assert (again.returncode, b"0 rewritten, %d sealed to the recipients already" % both in again.stdout) == (0, True)
    assert kept.run("verify").returncode == 0
    assert (recover(kept, "old.identity"), recover(kept, "new.identity")) == (8, 0)


def test_an_identity_that_opens_nothing_is_told_so(kept: NodeFolder) -> None:
    """With its own exit status, and nothing is changed."""
    config = kept.node / "backupd.toml"
    config.write_text(config.read_text().replace("ops.recipient", "new.recipient"))
    done = kept.run("key", "rotate", "--identity", "new.identity", "--passphrase-file", "passphrase", "--json")
    assert done.returncode == 8
    (one,) = json.loads(done.stdout)["stores"]
    assert (one["rekeying"]["rekeyed"], len(one["rekeying"]["unopened"])) == (0, keyrings(kept))
    assert opened(kept, "old.identity") == 0
