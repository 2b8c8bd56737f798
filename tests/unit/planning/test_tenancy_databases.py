"""Tenancy by database: which databases are backed up."""

import pytest

from backupd.errors import UnmappedError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.planning.mapping.names import choose_members


def tenancy(unclassified="refuse", **more):
    pattern = "customer_(?P<tenant>[a-z]+)"
    return Tenancy(TenancyKind.DATABASE, database_pattern=pattern, unclassified=unclassified, **more)


def test_databases_named_after_tenants_are_chosen():
    """The database connected to, and the maintenance database, are nobody's and left out."""
    assert choose_members(tenancy(), "admin", ["postgres", "customer_b", "admin", "customer_a"]) == [
        "customer_a",
        "customer_b",
    ]


def test_any_other_database_is_refused_without_being_named():
    """A database nobody thought of is noticed; its name may be a customer's."""
    with pytest.raises(UnmappedError) as caught:
        choose_members(tenancy(), "postgres", ["postgres", "customer_a", "acme_secret"])

    assert "acme" not in f"{caught.value.message}{caught.value.hint}"


def test_other_databases_are_shared_where_the_configuration_says_so():
    """Then they are backed up, too."""
    assert choose_members(tenancy("shared"), "postgres", ["postgres", "customer_a", "reports"]) == [
        "customer_a",
        "reports",
    ]


def test_a_tenant_database_is_chosen_even_when_it_is_the_one_connected_to():
    """The pattern decides, not the connection string."""
    assert choose_members(tenancy(), "customer_a", ["customer_a"]) == ["customer_a"]


@pytest.mark.parametrize("unclassified", ["refuse", "shared"])
def test_what_a_provider_keeps_for_itself_stops_nobody(unclassified):
    """Nobody may connect to it, so it can be neither shared nor refused; a tenant's database is never left out."""
    without = tenancy(unclassified, without_databases=("cloudsqladmin", "customer_a"))

    assert choose_members(without, "postgres", ["postgres", "cloudsqladmin", "customer_a"]) == ["customer_a"]
