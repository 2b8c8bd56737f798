"""A store that left the configuration: purges wait for it until somebody says it is gone, and attestations say who."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from doubles.samples.budgets import HALF_A_YEAR
from fix_offline_keeper import DAY, make_offline_keeper

from backupd.errors import DamageError, RefusedError, UsageError
from backupd.model.attestation import RETIRED
from backupd.operations.attestation.issue import attest
from backupd.operations.attestation.verify import verify_attestation
from backupd.operations.keeper.purge import Purging
from backupd.operations.ledger.check import retire
from backupd.operations.tenants.changes import TenantDesk, erase
from backupd.planning.incarnations import IncarnationKey, State
from backupd.store.directory import DirectoryStore


@pytest.fixture
def half(tmp_path):
    """A tenant purged from one of two stores, when the other left the configuration."""
    offline = make_offline_keeper(tmp_path, far=DirectoryStore(tmp_path / "far"))
    offline.backup(1, "acme")
    acme = offline.keeper.tags.tenant_id("acme")
    erase(TenantDesk(offline.keeper.book, offline.clock, HALF_A_YEAR, DAY, frozenset()), acme)
    place = offline.keeper.book._place
    with Purging(offline.keeper) as purging:
        assert not purging.begin([IncarnationKey(acme, 1)]).refused
    offline.keeper = replace(offline.keeper, stores={"disk": offline.repository})
    place.stores.pop("far")
    purge(offline, IncarnationKey(acme, 1))
    return offline, IncarnationKey(acme, 1)


def purge(offline, key):
    with Purging(offline.keeper) as purging:
        return purging.purge(key)


def test_an_incarnation_does_not_wait_for_a_store_that_was_retired(half):
    """It is cleared then, the attestation names store and decision as not seen, and the ledger vouches for that."""
    offline, key = half
    offline.clock.by = timedelta(days=2)
    for path in offline.root.rglob("*"):
        if path.is_file():
            offline.age(str(path.relative_to(offline.root)), 3)
    offline.clock.by = timedelta()
    book = offline.keeper.book
    assert book.states.incarnations[key].state is State.PURGING
    with pytest.raises(RefusedError, match="ledger retire"):
        attest(offline.keeper, key, {"disk": "here"})
    assert len(retire(book, offline.keeper.stores, "far", "OPS-311")) == 1
    assert book.states.incarnations[key].state is State.CLEARED
    assert retire(book, offline.keeper.stores, "far", "OPS-312") == []
    issued = attest(offline.keeper, key, {"disk": "here"})
    (store,) = issued.attestation.retired
    assert (store.store, store.decision, store.purging) == ("far", "OPS-311", True)
    assert RETIRED in issued.attestation.not_covered
    verdict = verify_attestation(issued.document, {offline.keeper.signer.public}, book.chain)
    assert verdict.attestation.stores[0].store == "disk"


def test_an_attestation_cannot_leave_a_retired_store_out(half):
    """The ledger tells of it."""
    import msgspec

    from backupd.model.attestation import encode_attestation

    offline, key = half
    retire(offline.keeper.book, offline.keeper.stores, "far", "OPS-311")
    issued = attest(offline.keeper, key, {"disk": "here"})
    silent = msgspec.structs.replace(issued.attestation, retired=[])
    document = offline.keeper.signer.sign(encode_attestation(silent), "attestation")
    with pytest.raises(DamageError, match="declared gone"):
        verify_attestation(document, {offline.keeper.signer.public}, offline.keeper.book.chain)


@pytest.mark.parametrize(
    ("store", "decision", "error"),
    [("disk", "OPS-1", RefusedError), ("fra", "OPS-1", UsageError), ("far", "it burnt down", UsageError)],
)
def test_only_a_store_that_was_and_is_not_any_more_is_retired(half, store, decision, error):
    """And by a reference: the ledger keeps no sentences."""
    offline, _ = half
    before = len(offline.keeper.book.chain.links)
    with pytest.raises(error) as caught:
        retire(offline.keeper.book, offline.keeper.stores, store, decision)
    assert store != "fra" or caught.value.hint == 'Did you mean "far"?'
    assert len(offline.keeper.book.chain.links) == before
