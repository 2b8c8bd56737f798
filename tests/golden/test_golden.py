"""What was written once is read for ever, by backupd and by the stand-alone script, row by row."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from doubles.stores.snapshots import look
from fix_clock import TickingClock
from fix_recover import Recover

from backupd.model.ids import Pseudonym, SnapshotName
from backupd.model.ledger import PurgeBegan
from backupd.operations.verify import Scope, Tools, verify
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal.keyfiles import read_identity
from backupd.seal.tags import TenantTags
from backupd.store.directory import DirectoryStore

GOLDEN = Path(__file__).parent / "format-2"
EXPECTED: dict[str, Any] = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
PASSPHRASE = "golden"
TENANT_KEY = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy, so that nothing can happen to what is kept."""
    shutil.copytree(GOLDEN / "be", tmp_path / "be")
    return tmp_path


@pytest.fixture
def repository(folder: Path) -> Repository:
    return Repository(DirectoryStore(folder / "be"), [EXPECTED["signer"]], [EXPECTED["keeper"]])


@pytest.fixture
def secret() -> bytes:
    return read_identity(GOLDEN / "identity", PASSPHRASE).secret


def purged(repository: Repository) -> set[Pseudonym]:
    """The segments whose purge the ledger tells."""
    info = repository.info()
    chain, _ = read_chain(repository.store, Chain(info.region, info.repository), repository.keepers)
    events = [event for entry in chain.entries() for event in entry.events if isinstance(event, PurgeBegan)]
    return {segment for event in events for _, segment in event.segments}


def test_every_snapshot_is_there(repository: Repository) -> None:
    """Three, each naming the one before."""
    names = repository.snapshots()
    assert names == sorted(EXPECTED["snapshots"])
    assert [repository.record(name).previous for name in names] == [None, *names[:2]]


@pytest.mark.parametrize("snapshot", sorted(EXPECTED["snapshots"]))
def test_backupd_reads_every_row(repository: Repository, secret: bytes, snapshot: SnapshotName) -> None:
    """By table and tenant, with every hash, tag and digest on the way; who was purged is left out."""
    gone = purged(repository)
    assert gone
    found = look(repository, snapshot, secret, gone)
    for table, by_tenant in EXPECTED["snapshots"][snapshot].items():
        rows = {tenant or "": sorted(lines) for tenant, lines in found.rows(table).items()}
        assert rows == {tenant: sorted(lines) for tenant, lines in by_tenant.items()}


@pytest.mark.parametrize("snapshot", sorted(EXPECTED["snapshots"]))
def test_recover_reads_every_row(folder: Path, recover: Recover, snapshot: SnapshotName) -> None:
    """The same rows, as plain files."""
    (folder / "pass").write_text(PASSPHRASE)
    result = recover(
        folder / "be", "--signer", EXPECTED["signer"], "--keeper", EXPECTED["keeper"], "--snapshot", snapshot,
        "--identity", GOLDEN / "identity", "--passphrase-file", folder / "pass", "--out", folder / "out",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    names = json.loads((folder / "out/app/tenants.json").read_text(encoding="utf-8")) | {"shared": ""}
    for table, by_tenant in EXPECTED["snapshots"][snapshot].items():
        found = {
            names[path.parent.parent.name]: sorted(path.read_text(encoding="utf-8").splitlines())
            for path in (folder / "out/app").glob(f"*/*/{table}.copy")
        }
        assert found == {tenant: sorted(rows) for tenant, rows in by_tenant.items()}


def test_it_verifies(repository: Repository, secret: bytes, folder: Path) -> None:
    """Every byte is right, and the ledger explains what is gone."""
    tools = Tools(
        TickingClock(), folder, threads=2, store="disk", tags=TenantTags(TENANT_KEY, repository.info().region)
    )
    with CheckedState(folder / "checked.sqlite") as checked:
        result = verify(repository, checked, Scope(Fraction(1), secret), tools)
    assert result.findings == ()
    assert (result.purged > 0, result.unpurged) == (True, 0)
    assert set(result.proven) == set(EXPECTED["snapshots"])
