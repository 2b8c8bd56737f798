"""Every copy of a tenant's keys that is known is listed: where it lies, and those that are only said to be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from fix_offline_keeper import DAY

from backupd.errors import DamageError, RefusedError
from backupd.model.attestation import DECLARED, encode_attestation
from backupd.operations.attestation.issue import attest
from backupd.operations.attestation.verify import verify_attestation
from backupd.operations.keeper.locate import locate_tenant
from backupd.operations.keeper.prove import InScope, prove_region
from backupd.operations.keeper.purge import Purging
from backupd.operations.tenants.changes import TenantDesk, erase
from backupd.planning.deadlines import DeletionBudget
from backupd.planning.incarnations import IncarnationKey

BUDGET = DeletionBudget(*[timedelta(days=n) for n in (180, 90, 0, 1, 8, 1, 7, 30, 1)])


def leave(yard, name):
    tenant = yard.keeper.tags.tenant_id(name)
    erase(TenantDesk(yard.keeper.book, yard.clock, BUDGET, DAY, frozenset()), tenant)
    with Purging(yard.keeper) as purging:
        purging.purge(IncarnationKey(tenant, 1))
    return tenant


def take_snapshot(yard, folders=("keyrings", "segments")):
    """One of the store's own, with the repository and these folders of it."""
    shot = yard.folder / ".zfs/snapshot" / f"daily_{datetime.now(UTC):%Y-%m-%d}" / yard.root.name
    shot.mkdir(parents=True)
    shutil.copy(yard.root / "repository.json", shot)
    for folder in folders:
        shutil.copytree(yard.root / folder, shot / folder)
    return shot.parent.name


def only(yard, tenant):
    (life,) = locate_tenant(yard.keeper, BUDGET, tenant)
    return life


def test_keys_are_listed_where_they_lie(yard):
    """In keyrings of the store by name, and in its own snapshots also when no object is there any more."""
    yard.backup(1, "acme")
    tenant = yard.keeper.tags.tenant_id("acme")
    keyrings = [name for name in yard.files() if name.startswith("keyrings/")]
    (copy,) = only(yard, tenant).copies
    assert (list(copy.keyrings), copy.key_snapshots) == (keyrings, ())
    name = take_snapshot(yard, ("keyrings",))
    leave(yard, "acme")
    (copy,) = only(yard, tenant).copies
    assert (copy.keyrings, copy.key_snapshots, copy.server_snapshots, copy.objects) == ((), (name,), (), 0)


def test_what_cannot_be_looked_into_is_named(yard):
    """What was handed in, uploads, stores declared gone and declared copies; the last with a date once it is known."""
    yard.ruled(copies={"tape": 30 * DAY})
    yard.backup(1, "acme")
    yard.put("incoming/n1/segments+a+b", b"x", 1)
    yard.put("tmp/" + "0" * 32, b"x", 3)
    tenant = yard.keeper.tags.tenant_id("acme")
    told = [(one.kind, one.name, one.objects, one.until) for one in only(yard, tenant).unseen]
    assert told == [("handed-in", "disk", 1, None), ("uploads", "disk", 1, None), ("declared", "tape", 0, None)]
    leave(yard, "acme")
    (tape,) = [one for one in only(yard, tenant).unseen if one.kind == "declared"]
    assert abs(tape.until - datetime.now(UTC) - 30 * DAY) < timedelta(minutes=5)
    assert "keyring-copies-elsewhere" in only(yard, tenant).not_covered


def test_plan_lists_every_copy_in_scope(yard):
    """The stores, their own snapshots as seen, and what is declared."""
    tape = {"tape": 30 * DAY}
    proof = prove_region(yard.keeper.book, replace(BUDGET, copies=30 * DAY), yard.clock.now(), tape)
    assert proof.copies == (InScope("store", "disk", None), InScope("declared", "tape", 30 * DAY))
    assert proof.holds
    assert not prove_region(yard.keeper.book, replace(BUDGET, copies=200 * DAY), yard.clock.now()).holds
    late = prove_region(yard.keeper.book, replace(BUDGET, run=DAY, leftovers=9 * DAY), yard.clock.now())
    assert ([one.code for one in late.findings], late.holds) == (["repair_slack"], False)


def test_an_attestation_waits_for_declared_copies_and_names_them(yard):
    """As declared, and not as observed; one that says less than a copy may have lived contradicts itself."""
    import msgspec

    yard.backup(1, "acme")
    key = IncarnationKey(leave(yard, "acme"), 1)
    yard.ruled(copies={"tape": 30 * DAY})
    with pytest.raises(RefusedError, match="copy 'tape' from before may live until"):
        attest(yard.keeper, key, {"disk": "here"})
    yard.ruled(copies={"tape": timedelta(seconds=0)})
    issued = attest(yard.keeper, key, {"disk": "here"})
    (copy,) = issued.attestation.copies
    assert (copy.copy, copy.kept) == ("tape", 0)
    assert DECLARED in issued.attestation.not_covered
    trusted = {yard.keeper.signer.public}
    assert verify_attestation(issued.document, trusted, yard.keeper.book.chain)
    later = msgspec.structs.replace(copy, until="2999-01-01T00:00:00.000000Z")
    lying = encode_attestation(msgspec.structs.replace(issued.attestation, copies=[later]))
    with pytest.raises(DamageError, match="may have lived"):
        verify_attestation(yard.keeper.signer.sign(lying, "attestation"), trusted, None)
