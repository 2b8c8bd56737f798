"""Every copy of a tenant's keys that is known is listed: where it lies, and those that are only said to be."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from doubles.samples.budgets import HALF_A_YEAR
from fix_offline_keeper import DAY

from backupd.errors import DamageError, RefusedError
from backupd.model.attestation import DECLARED, encode_attestation
from backupd.operations.attestation.issue import attest
from backupd.operations.attestation.verify import verify_attestation
from backupd.operations.keeper.locate import locate_tenant
from backupd.operations.keeper.prove import InScope, prove_region
from backupd.operations.keeper.purge import Purging
from backupd.operations.tenants.changes import TenantDesk, erase
from backupd.planning.incarnations import IncarnationKey


def leave(offline, name):
    tenant = offline.keeper.tags.tenant_id(name)
    erase(TenantDesk(offline.keeper.book, offline.clock, HALF_A_YEAR, DAY, frozenset()), tenant)
    with Purging(offline.keeper) as purging:
        purging.purge(IncarnationKey(tenant, 1))
    return tenant


def take_snapshot(offline, folder):
    """One of the store's own, with the repository and this folder of it."""
    shot = offline.folder / ".zfs/snapshot" / f"daily_{datetime.now(UTC):%Y-%m-%d}" / offline.root.name
    shot.mkdir(parents=True)
    shutil.copy(offline.root / "repository.json", shot)
    shutil.copytree(offline.root / folder, shot / folder)
    return shot.parent.name


def only(offline, tenant):
    (incarnation,) = locate_tenant(offline.keeper, HALF_A_YEAR, tenant)
    return incarnation


def test_keys_are_listed_where_they_lie(offline):
    """In keyrings of the store by name, and in its own snapshots also when no object is there any more."""
    offline.backup(1, "acme")
    tenant = offline.keeper.tags.tenant_id("acme")
    keyrings = [name for name in offline.files() if name.startswith("keyrings/")]
    (copy,) = only(offline, tenant).copies
    assert (list(copy.keyrings), copy.key_snapshots) == (keyrings, ())
    name = take_snapshot(offline, "keyrings")
    leave(offline, "acme")
    (copy,) = only(offline, tenant).copies
    assert (copy.keyrings, copy.key_snapshots, copy.server_snapshots, copy.objects) == ((), (name,), (), 0)


def test_what_cannot_be_looked_into_is_named(offline):
    """What was handed in, uploads, stores declared gone and declared copies; the last with a date once it is known."""
    offline.ruled(copies={"tape": 30 * DAY})
    offline.backup(1, "acme")
    offline.put("incoming/n1/packs+a+b", b"x", 1)
    offline.put("tmp/" + "0" * 32, b"x", 3)
    tenant = offline.keeper.tags.tenant_id("acme")
    told = [(one.kind, one.name, one.objects, one.until) for one in only(offline, tenant).unseen]
    assert told == [("handed-in", "disk", 1, None), ("uploads", "disk", 1, None), ("declared", "tape", 0, None)]
    leave(offline, "acme")
    (tape,) = [one for one in only(offline, tenant).unseen if one.kind == "declared"]
    assert abs(tape.until - datetime.now(UTC) - 30 * DAY) < timedelta(minutes=5)
    assert "keyring-copies-elsewhere" in only(offline, tenant).not_covered


def test_plan_lists_every_copy_in_scope(offline):
    """The stores, their own snapshots as seen, and what is declared."""
    tape = {"tape": 30 * DAY}
    proof = prove_region(offline.keeper.book, replace(HALF_A_YEAR, copies=30 * DAY), offline.clock.now(), tape)
    assert proof.copies == (InScope("store", "disk", None), InScope("declared", "tape", 30 * DAY))
    assert proof.holds
    assert not prove_region(offline.keeper.book, replace(HALF_A_YEAR, copies=200 * DAY), offline.clock.now()).holds
    late = prove_region(offline.keeper.book, replace(HALF_A_YEAR, run=DAY, leftovers=9 * DAY), offline.clock.now())
    assert ([one.code for one in late.findings], late.holds) == (["repair_slack"], False)


def test_an_attestation_waits_for_declared_copies_and_names_them(offline):
    """As declared, and not as observed; one that says less than a copy may have lived contradicts itself."""
    import msgspec

    offline.backup(1, "acme")
    key = IncarnationKey(leave(offline, "acme"), 1)
    offline.ruled(copies={"tape": 30 * DAY})
    with pytest.raises(RefusedError, match="copy 'tape' from before may live until"):
        attest(offline.keeper, key, {"disk": "here"})
    offline.ruled(copies={"tape": timedelta(seconds=0)})
    issued = attest(offline.keeper, key, {"disk": "here"})
    (copy,) = issued.attestation.copies
    assert (copy.copy, copy.kept) == ("tape", 0)
    assert DECLARED in issued.attestation.not_covered
    trusted = {offline.keeper.signer.public}
    assert verify_attestation(issued.document, trusted, offline.keeper.book.chain)
    later = msgspec.structs.replace(copy, until="2999-01-01T00:00:00.000000Z")
    lying = encode_attestation(msgspec.structs.replace(issued.attestation, copies=[later]))
    with pytest.raises(DamageError, match="may have lived"):
        verify_attestation(offline.keeper.signer.sign(lying, "attestation"), trusted, None)
