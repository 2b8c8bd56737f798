"""`backupd doctor` on a node with a real database and store: sound things are well, and each fault is found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from doubles.servers.http_listener import http_listener
from doubles.servers.postgres import quoted
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.seal.keyfiles import write_signer

Found = dict[tuple[str, str], dict[str, Any]]


def doctor(node: NodeFolder, *arguments: str, status: int = 0) -> Found:
    """The worst diagnosis of each area and place; the exit status is the expected one."""
    done = node.run("doctor", "--json", *arguments)
    assert done.returncode == status, (done.stdout + done.stderr).decode()
    diagnoses = json.loads(done.stdout)["diagnoses"]
    order = ["fault", "advice", "unseen", "well"]
    ranked = sorted(diagnoses, key=lambda one: order.index(one["result"]), reverse=True)
    return {(one["area"], one["place"]): one for one in ranked}


def edit(node: NodeFolder, old: str, new: str) -> None:
    config = node.node / "backupd.toml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


@pytest.fixture
def sound(
    every_role: Callable[[Database], str], make_database: Callable[..., Database], pg17: object, node_of: Any
) -> NodeFolder:
    """A node whose role is no superuser, with one mapped table."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)")
    node: NodeFolder = node_of(database, dsn=every_role(database))
    return node


@pytest.fixture
def every_role(make_role: Callable[..., str]) -> Callable[[Database], str]:
    """The connection string of a role that may read everything."""

    def make(database: Database) -> str:
        role = make_role(database.server, "LOGIN BYPASSRLS IN ROLE pg_read_all_data")
        return database.server.conninfo(database.name, role)

    return make


def test_a_sound_node_is_well(sound: NodeFolder) -> None:
    """Database, programs, clocks, folders, store and timetables are; and what nobody looked at is not counted so."""
    found = doctor(sound, "--probe")
    results = {place: one["result"] for place, one in found.items()}
    assert results["databases", "be/app"] == "well"
    assert results["programs", "be/app"] == "well"
    assert results["clocks", "be/app"] == results["clocks", "be on disk"] == "well"
    assert results["state", "node.state_dir"] == results["state", "node.spool_dir"] == "well"
    assert results["timetables", "schedule"] == "well"
    assert found["stores", "be on disk"]["message"].startswith("a writer may remove what is there")
    assert [*(sound.folder / "disk" / "be").glob("tmp/*")] == []
    assert doctor(sound)["clocks", "be on disk"]["result"] == "unseen"


def test_nothing_is_written(sound: NodeFolder) -> None:
    """Neither a state folder nor a file in the store is made: whoever looks as root must leave nothing of root's."""
    before = sorted(path for path in sound.folder.rglob("*"))
    doctor(sound)
    assert sorted(path for path in sound.folder.rglob("*")) == before


def test_an_unmapped_table_has_the_status_of_a_backup(sound: NodeFolder, make_database: object) -> None:
    """It is the same refusal as the backup's, with the same exit status."""
    edit(sound, 'column = "tenant"', 'column = "customer"')
    assert doctor(sound, status=5)["databases", "be/app"]["result"] == "fault"


def test_a_database_that_is_away_is_a_fault(sound: NodeFolder) -> None:
    """With host and port in its message, and the status of a source."""
    config = sound.node / "backupd.toml"
    config.write_text(re.sub(r'(dsn = ".*)"', r'\1 port=1"', config.read_text()))
    found = doctor(sound, status=4)["databases", "be/app"]
    assert found["result"] == "fault"
    assert "port 1" in found["message"]
    assert ("clocks", "be/app") not in doctor(sound, status=4)


def test_a_password_that_ends_is_advice_in_time(sound: NodeFolder, pg17: Any) -> None:
    """Nobody wants to learn it from the first backup that fails."""
    role = sound.node.joinpath("backupd.toml").read_text().partition("user=")[2].split()[0].strip('"')
    pg17.sql("postgres", f"ALTER ROLE {quoted(role)} VALID UNTIL 'tomorrow'")
    assert doctor(sound)["databases", "be/app"]["result"] == "advice"


def test_a_signer_who_joined_after_init_is_a_fault(sound: NodeFolder) -> None:
    """With the store alone, `recover` would leave its snapshots out; the fix is a command."""
    other = write_signer(sound.folder / "other.key").public
    edit(sound, 'signers = ["', f'signers = ["{other}", "')
    found = doctor(sound, status=6)["stores", "be on disk"]
    assert other in found["message"]
    assert "backupd store accept disk" in found["hint"]


def test_a_keeper_who_joined_after_init_is_advice(sound: NodeFolder) -> None:
    """Nothing is lost without its name: `recover` takes it as an option."""
    other = write_signer(sound.folder / "other.key").public
    edit(sound, "[trust]\n", f'[trust]\nkeepers = ["{other}"]\n')
    node = doctor(sound)["stores", "be on disk"]
    assert node["result"] == "advice"


def test_targets_of_messages_are_tried_when_asked(sound: NodeFolder) -> None:
    """One that takes the test is well, one that refuses is a fault, and a heartbeat is never requested."""
    with http_listener() as heard:
        for name, text in (("urls", f"json://u:hunter2@127.0.0.1:{heard.port}/told"), ("beats", "http://127.0.0.1:1/")):
            (sound.node / name).write_text(f"{text}\n")
            (sound.node / name).chmod(0o600)
        config = sound.node / "backupd.toml"
        files = f'[notify]\nurls = ["{sound.node}/urls"]\nheartbeat = ["{sound.node}/beats"]\n'
        config.write_text(f"{config.read_text()}\n{files}")
        place = "notifications", "notify.urls[0]:1"
        assert doctor(sound)[place]["result"] == "unseen"
        assert heard.requests == []
        assert doctor(sound, "--notify")[place]["result"] == "well"
        ((path, body),) = heard.requests
        assert path == "/told"
        assert "This is a test" in body
        heard.status = 500
        found = doctor(sound, "--notify", status=3)
    assert found[place]["result"] == "fault"
    assert found["notifications", "notify.heartbeat[0]:1"]["result"] == "unseen"
    assert "hunter2" not in json.dumps(list(found.values()))


def credentials(node: NodeFolder, unit: str, *names: str) -> Path:
    """Hand a unit copies of the node's files."""
    folder = node.node / "credentials" / unit
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes((node.node / name).read_bytes())
        (folder / name).chmod(0o600)
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look at what units are given")
def test_root_sees_the_credentials_of_each_unit(sound: NodeFolder) -> None:
    """What a unit lacks, what is open, and what it must not have; and the database is tried with what the node has."""
    write_signer(sound.node / "keeper.key")
    for name in ("signing.key", "tenant.key"):
        edit(sound, f"{sound.node}/{name}", f"credential:{name}")
    config = sound.node / "backupd.toml"
    config.write_text(config.read_text() + '\n[keeper]\nsigning_key_file = "credential:keeper.key"\n')
    folder = credentials(sound, "node", "signing.key", "tenant.key")
    found = doctor(sound)
    assert found["credentials", "node"]["result"] == "well"
    assert found["credentials", "keeper"]["result"] == "unseen"
    assert found["databases", "be/app"]["result"] == "well"
    (folder / "signing.key").chmod(0o644)
    assert "not for root alone" in doctor(sound, status=3)["credentials", "node"]["message"]
    (folder / "signing.key").chmod(0o600)
    credentials(sound, "node", "keeper.key")
    assert "sign removals as the keeper" in doctor(sound, status=3)["credentials", "node"]["message"]
    (folder / "keeper.key").unlink()
    (folder / "tenant.key").unlink()
    assert "node.tenant_key_file" in doctor(sound, status=3)["credentials", "node"]["message"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_files_of_another_user_in_the_state_are_a_fault(sound: NodeFolder) -> None:
    """A backup by root leaves what the unit's user cannot write; the fix names the owner."""
    state = sound.node / "state"
    (state / "be").mkdir(parents=True)
    subprocess.run(["chown", "nobody", state], check=True)
    found = doctor(sound, status=3)["state", "node.state_dir"]
    assert found["message"].endswith('1 file that its owner "nobody" does not own, and cannot use')
    assert "chown -R nobody" in found["hint"]
