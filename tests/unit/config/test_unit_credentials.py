"""Which unit needs which credential follows from where the configuration names it."""

from __future__ import annotations

from doubles.samples.example_config import EXAMPLE

from backupd.config.load import parse
from backupd.config.units import UNITS, unit_credentials

WHOLE = (
    EXAMPLE.replace("# keeper_key = ", "keeper_key = ")
    + """
[keeper]
signing_key_file = "credential:keeper.key"
[drill]
identity = "credential:drill.identity"
passphrase_file = "credential:drill.passphrase"
"""
)
CONFIG = parse(WHOLE, "x")


def test_the_credentials_of_the_units_are_those_of_the_manual():
    """The manual's table of folders names what each needs; a password file may be with any."""
    wanted = {unit: unit_credentials(CONFIG, unit) for unit in UNITS}
    assert wanted["node"].needed.keys() >= {"signing.key", "tenant.key", "store.key"}
    assert {"keeper.key", "keeper-store.key"} <= wanted["node"].forbidden.keys()
    assert wanted["keeper"].needed.keys() >= {"keeper.key", "tenant.key", "store.key", "keeper-store.key"}
    assert wanted["keeper"].forbidden == {
        "signing.key": "sign backups as the node",
        "drill.identity": "read the backups",
        "drill.passphrase": "read the backups",
    }
    assert wanted["drill"].needed.keys() >= {"keeper.key", "tenant.key", "store.key", "drill.identity"}


def test_a_name_that_a_unit_needs_is_not_forbidden_to_it():
    """Two keys may be one file."""
    shared = WHOLE.replace("credential:keeper-store.key", "credential:store.key")
    assert shared != WHOLE
    assert "store.key" not in unit_credentials(parse(shared, "x"), "node").forbidden
