"""A machine's tenant key against that under which a repository was written, whatever others added to the store."""

from __future__ import annotations

import pytest
from fix_handmade_keeper import HandmadeKeeper, named

from backupd.errors import RefusedError
from backupd.operations.tenant_key import check_tenant_key
from backupd.seal.tags import TenantTags


@pytest.fixture
def shared(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """A snapshot of three tenants."""
    handmade.backup(2, "ada", "bob", "eve")
    return handmade


def test_a_tenant_key_that_is_not_the_repositorys_is_refused(shared: HandmadeKeeper) -> None:
    """By keyrings of the last generations; one that somebody forged convinces nobody."""
    tags, other = shared.keeper.tags, TenantTags(b"o" * 32, shared.keeper.region)
    check_tenant_key(shared.repository, tags)
    with pytest.raises(RefusedError, match=r"under which 'keyrings/.*' was written") as refused:
        check_tenant_key(shared.repository, other)
    assert "purged tenants come back" in str(refused.value.hint)
    shared.forge(named("ada"), named("bob"))
    shared.write_under_another_key(named("ada"))
    check_tenant_key(shared.repository, tags)


@pytest.mark.parametrize("forged", ["signed keyrings", "unsigned keyrings", "names of records alone"])
def test_what_anybody_adds_neither_hides_a_tenant_key_nor_makes_the_right_one_look_wrong(
    shared: HandmadeKeeper, forged: str
) -> None:
    """Under the newest names in as many generations as are looked at; older by the store's time is none of it."""
    tags, other = shared.keeper.tags, TenantTags(b"n" * 32, shared.keeper.region)
    generations = [shared.made.generation, *(f"2099010{day}T000000Z-00000000" for day in range(1, 6))]
    for generation in generations:
        shared.put(f"snapshots/{generation}/20990101T000000Z-{'ab' * 32}", b"noise", days_ago=0)
        for number in range(5):
            run = f"20990101T000000Z-{number:08x}"
            if forged == "signed keyrings":
                shared.write_under_another_key(named("ada"), generation, run)
            elif forged == "unsigned keyrings":
                shared.put(f"keyrings/{generation}/{run}.keyring", b"noise", days_ago=0)
    check_tenant_key(shared.repository, tags)
    with pytest.raises(RefusedError, match=r"under which 'keyrings/.*' was written"):
        check_tenant_key(shared.repository, other)
