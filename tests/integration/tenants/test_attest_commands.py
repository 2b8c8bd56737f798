"""An auditor asks: the attestation is issued, signed by a second hand, verified elsewhere and printed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database

NAME = "secretive-1"
ROW = "kwartelei"


@pytest.fixture
def kept(pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    """A node that is its own keeper, with three tenants' rows backed up."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        f"INSERT INTO note SELECT g, 'secretive-' || g % 3, '{ROW}' || g FROM generate_series(1, 300) g",
    )
    node = node_of(database)
    node.become_keeper()
    node.json("backup")
    return node


def test_an_auditor_gets_a_proof(kept: NodeFolder) -> None:
    """From the refusal before the purge to the page: each step with its exit status, and no name anywhere."""
    file, page, copy = kept.node / "one.json", kept.node / "one.html", kept.node / "copy"
    asked = ("tenant", "attest", "be", NAME, "--out", str(file))
    assert kept.run(*asked).returncode == 10
    kept.json("tenant", "erase", "be", NAME)
    issued = kept.json(*asked)
    assert kept.run(*asked).returncode == 10  # never overwritten
    key = issued["attestation"]["performer"]
    (store,) = (kept.folder / "disk").rglob("attestations")
    shutil.copytree(store.parent / "ledger", copy / "ledger")
    validator = kept.node / "validator.key"
    kept.json("key", "generate", "--signer", str(validator))
    assert kept.json("attest", "countersign", str(file), "--key", str(validator))["signatures"] == 2
    for ledger in (copy, copy / "ledger"):
        told = kept.json("attest", "verify", str(file), "--ledger", str(ledger), "--keeper", key)
        assert (told["good"], told["verdict"]["sha256"]) == (True, issued["sha256"])
        assert len(told["verdict"]["signatures"]) == 2
    said = kept.run("attest", "verify", str(file))
    assert said.returncode == 0
    assert b"NOT checked: the ledger" in said.stdout
    assert kept.run("attest", "verify", str(file), "--keeper", "ab" * 32).returncode == 7
    assert kept.run("attest", "verify", str(file), "--keeper", key[:16]).returncode == 2
    assert kept.run("attest", "verify", str(file), "--ledger", str(kept.node)).returncode == 2
    kept.json("attest", "page", str(file), "--out", str(page))
    assert kept.run("attest", "page", str(file), "--out", str(page)).returncode == 10
    for text in (file.read_text(), page.read_text(), json.dumps(issued)):
        assert "secretive" not in text
        assert ROW not in text
    max((copy / "ledger").iterdir()).unlink()
    assert kept.run("attest", "verify", str(file), "--ledger", str(copy)).returncode == 7
    file.write_bytes(file.read_bytes().replace(b'"late":false', b'"late":true '))
    for command in (("verify", str(file)), ("countersign", str(file), "--key", str(validator))):
        assert kept.run("attest", *command).returncode == 7
    assert kept.json("tenant", "show", "be", NAME)["history"][-1]["event"]["event"] == "attested"
    assert not kept.json("verify", "be")["stores"][0]["verification"]["foreign"]
