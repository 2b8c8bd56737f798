"""A keeper that is apart: with all of a node, its keys, its configuration and its account, nobody does its work."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from fix_handmade_keeper import HandmadeKeeper

from backupd.cli.main import main
from backupd.errors import ConfigError
from backupd.repository import layout
from backupd.seal.keyfiles import Recipient, write_recipient, write_secret
from backupd.seal.tags import write_tenant_key

CONFIG = """
recipients = ["{folder}/ops.recipient"]
[node]
name = "n1"
state_dir = "{folder}/state"
spool_dir = "{folder}/spool"
signing_key_file = "{folder}/signing.key"
tenant_key_file = "{folder}/tenant.key"
[trust]
signers = ["{signer}"]
keepers = ["{keeper}"]
[stores.disk]
kind = "directory"
path = "{folder}/disk"
location = "here"
[regions.be]
locations = ["here"]
stores = ["disk"]
[regions.be.databases.app]
dsn = "host=/nowhere dbname=app"
tenancy = {{ kind = "column", column = "tenant" }}
"""
WAYS = {
    "without the keeper's section": ("", "this machine is no keeper"),
    "with the node's key as the keeper's": (
        '[keeper]\nsigning_key_file = "{folder}/signing.key"\n',
        "this keeper's signing key is not trusted",
    ),
}
WORK = (
    "expire be --yes",
    "expire be --false {snapshot} --yes",
    "purge be --yes",
    "tenant erase be ada --yes",
    "tenant unsubscribe be ada",
    "tenant hold be ada CASE-1 --review 2099-01-01",
    "tenant attest be ada",
    "ledger retire-keeper be {keeper} --decision CASE-1 --yes",
    "ledger redate be --decision CASE-1 --yes",
)


@pytest.fixture
def stolen(handmade: HandmadeKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that a node has, and the store with an old snapshot, whose keeper is elsewhere."""
    handmade.backup(100, "ada")
    handmade.backup(1, "ada", "bob")
    folder = tmp_path / "stolen"
    (folder / "disk").mkdir(parents=True)
    shutil.copytree(handmade.root, folder / "disk" / "be")
    write_recipient(folder / "ops.recipient", Recipient("ops", handmade.made.identity.public))
    write_secret(folder / "signing.key", handmade.made.signer._secret)
    write_tenant_key(folder / "tenant.key")
    monkeypatch.setenv("BACKUPD_CONFIG", str(folder / "backupd.toml"))
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_who_has_all_of_a_node_does_no_keepers_work(
    handmade: HandmadeKeeper, stolen: Path, way: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command is refused before it changes anything; what a node may do it still does."""
    section, said = WAYS[way]
    known = {"folder": stolen, "signer": handmade.made.signer.public, "keeper": handmade.keeper.signer.public}
    (stolen / "backupd.toml").write_text((CONFIG + section).format(**known))
    files = {path: path.read_bytes() for path in (stolen / "disk").rglob("*") if path.is_file()}
    assert [path for path in files if layout.place_of(path.relative_to(stolen / "disk" / "be").as_posix()).snapshot]
    assert main(["snapshots", "be"]) == 0
    for command in WORK:
        status = main(shlex.split(command.format(snapshot=handmade.made.previous, **known)))
        assert (command, status, said in capsys.readouterr().err) == (command, ConfigError.exit_code, True)
    assert {path: path.read_bytes() for path in (stolen / "disk").rglob("*") if path.is_file()} == files
