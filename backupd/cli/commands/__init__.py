"""One short module per group of commands. They import what they run when they run it: `--help` loads none of it."""

from __future__ import annotations

import typer

from backupd.cli.commands import (
    attest,
    backup,
    config,
    daemon,
    drill,
    keeper,
    keys,
    ledger,
    manual,
    reports,
    restore,
    setup,
    status,
    store,
    tenants,
)


def add_all(app: typer.Typer) -> None:
    """Every command, in the order of the manual."""
    for add in (
        keys.add,
        config.add,
        setup.add,
        backup.add,
        store.add,
        restore.add,
        status.add,
        tenants.add,
        keeper.add,
        keeper.add_ingest,
        store.add_replicate,
        ledger.add,
        attest.add,
        drill.add,
        reports.add,
        daemon.add,
        manual.add,
    ):
        add(app)
