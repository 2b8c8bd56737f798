"""A machine that never saw the ledger believes one that was cut short, unless somebody kept an entry elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fix_clock import TickingClock
from fix_handmade_keeper import HandmadeKeeper, SeenEvents
from fix_recover import Recover

from backupd.cli.options import ledger_head
from backupd.errors import DamageError, UsageError
from backupd.model.documents import LedgerHead, parse_head
from backupd.operations.ledger.check import check_ledger
from backupd.operations.restore.choose import read_history
from backupd.operations.restore.types import RestoreEnvironment
from backupd.operations.verify import Scope, Tools, verify
from backupd.repository.state.checked import CheckedState
from backupd.seal.keyfiles import write_identity


@pytest.fixture
def cut(handmade: HandmadeKeeper) -> tuple[HandmadeKeeper, LedgerHead]:
    """A store whose operator took the entries of a purge away, which no record saw; and the head that a person kept."""
    handmade.backup(1, "ada", "bob")
    handmade.erase("ada")
    handmade.purge("ada")
    kept = handmade.keeper.book.chain.head
    for path in sorted((handmade.root / "ledger").iterdir())[1:]:
        path.unlink()
    return handmade, kept


def history(handmade: HandmadeKeeper, at_least: LedgerHead | None) -> None:
    secret = handmade.made.identity.secret
    world = RestoreEnvironment(secret, TickingClock(), SeenEvents(), os.urandom, store="disk", at_least=at_least)
    read_history(handmade.repository, world)


def test_a_restore_refuses_a_ledger_without_the_entry(cut: tuple[HandmadeKeeper, LedgerHead]) -> None:
    """By its number; one with another entry in its place, too; and without a witness nobody can tell."""
    handmade, kept = cut
    history(handmade, None)
    with pytest.raises(DamageError, match=f"ends at entry 1, but '--ledger-at-least' saw {kept.seq}"):
        history(handmade, kept)
    with pytest.raises(DamageError, match="entry 1 of the ledger is not the one that '--ledger-at-least' saw"):
        history(handmade, LedgerHead(seq=1, head=kept.head))


def test_verify_finds_it(cut: tuple[HandmadeKeeper, LedgerHead], tmp_path: Path) -> None:
    """The store's check and the ledger's own."""
    handmade, kept = cut
    with CheckedState(tmp_path / "checked.sqlite") as checked:
        tools = Tools(TickingClock(), tmp_path, store="disk", tags=handmade.made.tags)
        found = verify(handmade.repository, checked, Scope(at_least=kept), tools)
    assert any("--ledger-at-least" in one.sentence for one in found.findings)
    (fresh := tmp_path / "fresh").mkdir()
    handmade.folder = fresh
    damage = check_ledger(handmade._book(handmade.store), handmade.repository, kept).damage
    assert any("--ledger-at-least" in line for line in damage)


def test_recover_refuses_it(cut: tuple[HandmadeKeeper, LedgerHead], recover: Recover, tmp_path: Path) -> None:
    """A person with the store, an identity and a runbook."""
    handmade, kept = cut
    write_identity(tmp_path / "ops.identity", "ops", handmade.made.identity, "open sesame")
    run = ("--identity", tmp_path / "ops.identity", "--passphrase-file", tmp_path / "pass", "--out", tmp_path / "out")
    (tmp_path / "pass").write_text("open sesame\n")
    keeper = ("--keeper", handmade.keeper.signer.public)
    done = recover(handmade.root, *run, *keeper, "--ledger-at-least", str(kept))
    assert done.returncode == DamageError.exit_code
    assert f"--ledger-at-least names entry {kept.seq}" in done.stderr
    assert recover(handmade.root, *run, "--ledger-at-least", "7").returncode == UsageError.exit_code


def test_the_text_is_read_as_it_is_printed() -> None:
    """Nothing else is taken for a witness."""
    head = LedgerHead(seq=12, head="a5" * 32)
    assert parse_head(str(head)) == head
    assert ledger_head(None) is None
    for text in ("", "12", f"0:{'a5' * 32}", f"12:{'A5' * 32}", f"12:{'a5' * 8}"):
        with pytest.raises(UsageError, match="--ledger-at-least takes"):
            ledger_head(text)
