"""`tenant …`: who leaves, who stays, and where their rows still are."""

from __future__ import annotations

import typer

from backupd.cli.commands.tenants import attesting, changing, showing
from backupd.cli.options import EXIT_STATUS


def add(app: typer.Typer) -> None:
    group = typer.Typer(rich_markup_mode=None, help="Tenants who leave, come back, are held, or move.")
    for name, command in (
        ("list", showing.list_),
        ("show", showing.show),
        ("where", showing.where),
        ("unsubscribe", changing.unsubscribe),
        ("resubscribe", changing.resubscribe),
        ("erase", changing.erase),
        ("hold", changing.hold),
        ("release", changing.release),
        ("move", changing.move),
        ("attest", attesting.attest),
        ("sync", showing.sync),
    ):
        group.command(name, epilog=EXIT_STATUS)(command)
    app.add_typer(group, name="tenant")
