"""One short module per group of commands. They import what they run when they run it: `--help` loads none of it."""

from __future__ import annotations

import typer

from backupd.cli.commands import (
    attest,
    backup,
    config,
    daemon,
    drill,
    ingesting,
    keeping,
    keys,
    ledger,
    manual,
    replicate,
    reports,
    restore,
    setup,
    status,
    store,
    tenants,
)


def add_all(app: typer.Typer) -> None:
    """Every command, in the order of the manual."""
    for group in (
        keys,
        config,
        setup,
        backup,
        store,
        restore,
        status,
        tenants,
        keeping,
        ingesting,
        replicate,
        ledger,
        attest,
        drill,
        reports,
        daemon,
        manual,
    ):
        group.add(app)
