"""A tenant that nothing knows is refused, with what was searched and with the id of one spelled nearly so."""

import pytest

from backupd.errors import RefusedError
from backupd.model.ids import TenantId
from backupd.planning.sightings import Sightings, nearest_name, require_known

WHO, OTHER = TenantId("ab" * 16), TenantId("cd" * 16)


@pytest.mark.parametrize(
    "seen",
    [
        Sightings(WHO, in_ledger=True),
        Sightings(WHO, in_ledger=False, stores={"one": False, "two": True}, unreached=("store three",)),
        Sightings(WHO, in_ledger=False, stores={"one": False}, listed=True),
    ],
)
def test_one_place_that_knows_a_tenant_is_enough(seen):
    """Whatever the others say or cannot say."""
    assert seen.known
    require_known(seen)


def test_a_refusal_says_what_was_searched_and_what_was_not():
    """With the places in words, so that nobody takes a store that is away for one that was searched."""
    with pytest.raises(RefusedError) as caught:
        require_known(Sightings(WHO, in_ledger=False, stores={"two": False, "one": False}, unreached=("store three",)))
    assert caught.value.message == (
        f"nothing knows tenant {WHO}: searched were the ledger and all keyrings on one, two; "
        "store three could not be searched"
    )
    assert caught.value.hint == "Check the spelling. Give --unknown if you are sure."
    assert caught.value.exit_code == 10


def test_a_refusal_gives_the_nearest_tenant_by_its_id():
    """The query is among the places searched."""
    with pytest.raises(RefusedError) as caught:
        require_known(Sightings(WHO, in_ledger=False, stores={"one": False}, listed=False, nearest=OTHER))
    assert "searched were the ledger, all keyrings on one and the lifecycle query" in caught.value.message
    assert OTHER in caught.value.hint


def test_the_nearest_name_is_one_that_may_be_meant():
    """A slip of a finger is near; another name of the same length is not."""
    assert nearest_name("acmee", ["globex", "acme", "acne"]) == "acme"
    assert nearest_name("99", ["11", "42"]) is None
    assert nearest_name("globex", ["globus"]) is None


def test_a_refusal_names_nothing_that_was_not_searched():
    """Where there is no store and no query, the ledger alone was."""
    with pytest.raises(RefusedError) as caught:
        require_known(Sightings(WHO, in_ledger=False))
    assert caught.value.message == f"nothing knows tenant {WHO}: searched were the ledger"
