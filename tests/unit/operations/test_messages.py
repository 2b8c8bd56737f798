"""Messages that a person can act on: each names what is missing, where, and what to do next."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from doubles.samples.budgets import HALF_A_YEAR

from backupd.cli.commands.keeper import _proof_lines
from backupd.cli.commands.keys import rekeyed_lines
from backupd.cli.options import new_passphrase, recipients_named
from backupd.cli.wizard.keys import _passphrase
from backupd.errors import DamageError, KeyRefusedError, RefusedError, UsageError
from backupd.model.ids import RegionName, SnapshotName, TenantId
from backupd.operations.attestation.issue import _refuse
from backupd.operations.keeper.prove import RegionProof
from backupd.operations.keeper.rekey import Rekeying
from backupd.operations.restore.choose import naming
from backupd.operations.tenants.standing import TenantStanding
from backupd.planning.deadlines import prove
from backupd.planning.incarnations import IncarnationKey, State
from backupd.postgres.failures import translate
from backupd.postgres.schema.needs import SchemaNeeds
from backupd.postgres.target.lacks import missing_things
from backupd.seal import keyfiles, suite
from backupd.seal.documents import Signer, read_document

NOW = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_missing_password_names_the_file() -> None:
    """The one that the configuration names, and what may be wrong with it."""
    error = translate(
        psycopg.OperationalError("fe_sendauth: no password supplied"), "db1, port 5432", Path("/x/pgpass")
    )

    assert error.message == "cannot connect to PostgreSQL at db1, port 5432: no password for it"
    assert error.hint.startswith("'/x/pgpass' is not there, is not its owner's alone (chmod 600), or has no line")


@pytest.mark.parametrize(("kind", "place"), [("ledger", "trust.keepers"), ("snapshot", "trust.signers")])
def test_an_unknown_signer_is_named_with_where_to_add_it(kind: str, place: str) -> None:
    """By its fingerprint, as `key generate` prints it."""
    signer = Signer(b"s" * 32)
    with pytest.raises(DamageError) as caught:
        read_document(signer.sign(b"{}", kind), kind, ["ab" * 32], "it")

    assert suite.signer_fingerprint(signer.public) in caught.value.message
    assert f"add its public key to {place}" in caught.value.hint


def test_damage_names_the_snapshot_and_other_ways() -> None:
    """Another store, an older snapshot, and the command that lists the rest."""
    with pytest.raises(DamageError) as caught, naming(SnapshotName("20261129T152037Z-9ed6c0538445eb50")):
        raise DamageError("the header of 'packs/x' cannot be read")

    assert caught.value.message == "in snapshot 20261129T152037Z-9ed6c053: the header of 'packs/x' cannot be read"
    for other in ("--store NAME", "--snapshot", "`backupd verify`"):
        assert other in caught.value.hint


def test_a_wrong_identity_is_told_whose_would_do(tmp_path: Path) -> None:
    """The fingerprints are those of configured recipients, whose names are known."""
    pair, stranger = suite.generate(), "ab" * 16
    keyfiles.write_recipient(tmp_path / "ops.recipient", keyfiles.Recipient("ops", pair.public))
    context: Any = SimpleNamespace(config=SimpleNamespace(recipients=[tmp_path / "ops.recipient"]))
    known = suite.fingerprint(pair.public)
    with pytest.raises(KeyRefusedError) as caught, recipients_named(context):
        raise KeyRefusedError(f"the identity {stranger} does not open it", hint=f"It is sealed to {known}.")

    assert caught.value.message == f"the identity {stranger} does not open it"
    assert caught.value.hint == f"It is sealed to {known} (ops)."


def test_a_rotation_names_those_who_can_read_from_now_on() -> None:
    """Nobody knows their own fingerprint by heart."""
    pair = suite.generate()
    known = suite.fingerprint(pair.public)
    done = Rekeying("zurich", (known,), keyrings=1, already=1)
    assert list(rekeyed_lines("be", done, {pair.public: "ops"}, dry_run=True)) == [
        "be on zurich: 1 keyring, 0 would be rewritten, 1 sealed to the recipients already",
        f"  recipient {known} (ops)",
    ]


def test_a_role_that_may_make_no_database_is_told_so() -> None:
    """Before anything is made, and not that a locale or a tablespace may be missing."""
    answers: Any = {"rolcreatedb": [(False,)], "rolsuper": [(True,)]}

    def execute(query: str | bytes, *_: object) -> Any:
        text = query if isinstance(query, str) else query.decode()
        return SimpleNamespace(fetchall=lambda: next((rows for mark, rows in answers.items() if mark in text), []))

    connection: Any = SimpleNamespace(execute=execute, info=SimpleNamespace(parameter_status=lambda _: "on"))
    (lack,) = missing_things(connection, SchemaNeeds(), roles=True)

    assert lack.summary() == "the right to make databases CREATEDB"
    assert lack.cure == "Give the user of --target CREATEDB, or name a superuser there."


def test_what_is_not_gone_yet_says_when_to_ask_again() -> None:
    """By the command that knows the day."""
    with pytest.raises(RefusedError, match="cannot be attested yet: a store was away") as caught:
        _refuse(IncarnationKey(TenantId("ab" * 16), 1), ["a store was away"])
    assert "`backupd tenant where` says by which day nothing is left" in caught.value.hint


def test_a_short_passphrase_is_refused_before_it_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody types twice what cannot be taken."""
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or "short")
    with pytest.raises(UsageError, match="shorter than 10"):
        new_passphrase(None, "ops.identity")
    assert asked == ["New passphrase of ops.identity: "]


def test_the_end_of_input_ends_setup_at_a_passphrase_as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same words, and not as a wrong command line."""

    def end(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("getpass.getpass", end)
    with pytest.raises(RefusedError, match="setup was ended; nothing was written"):
        _passphrase("ops.identity")


def test_a_late_tenant_is_no_fault_of_the_terms() -> None:
    """The inequality that holds is not said to fail; the tenant is named as what is late."""
    budget = HALF_A_YEAR
    late = TenantStanding(
        tenant=TenantId(os.urandom(16).hex()), incarnation=1, scope="", state=State.MARKED, since=NOW - 190 * DAY,
        cause="unsubscribed", purge_by=NOW - 30 * DAY, deadline=NOW - 10 * DAY, holds=(), stores=(),
        overdue="deletion overdue",
    )  # fmt: skip
    proof = RegionProof(RegionName("be"), prove(budget), prove(budget), (), (late,))

    first = next(iter(_proof_lines(proof)))

    assert "DOES NOT HOLD" not in first
    assert first.startswith("be: IS NOT KEPT, 1 tenant overdue, though by its terms it holds: 180 d >= ")
