"""The parser: which commands there are, and what `backupd --help` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

import backupd
from backupd.cli import commands, output
from backupd.cli.options import EXIT_STATUS, ConfigOption

_ABOUT = """Sealed, deduplicated, per-tenant backups of PostgreSQL over SSH, with proof.

backupd dumps the databases of a region at one instant, splits the rows by tenant, compresses and seals them on this
machine, and ships them to stores it does not have to trust. This machine can add backups; reading one takes an
identity, which belongs somewhere else.

\b
The way from nothing to a proven backup:
  backupd key generate ops.identity        an identity and its recipient file
  backupd key generate --signer signing.key
  backupd config example > backupd.toml    then edit it
  backupd config check                     everything wrong with it, at once
  backupd tenancy be                       how every table is mapped to tenants
  backupd init be                          make the repository on the stores
  backupd backup be                        and again every night
  backupd snapshots be
  backupd verify be --read-data 10% --identity ops.identity
  backupd restore database be app --snapshot latest --target "dbname=app_restored" --identity ops.identity

`backupd manual` lists everything else there is to read.

\b
Files and environment:
  /etc/backupd/backupd.toml   the configuration, unless --config or BACKUPD_CONFIG says otherwise
  CREDENTIALS_DIRECTORY       where systemd puts what the configuration calls credential:NAME
  PGSERVICEFILE, PG...        as libpq reads them; passwords belong into a passfile
"""


def build() -> Callable[..., Any]:
    """The command line, to be called with arguments."""
    app = typer.Typer(
        name="backupd", rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, help=_ABOUT
    )
    app.callback(epilog=EXIT_STATUS)(_root)
    commands.add_all(app)
    return typer.main.get_command(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.print_lines([f"backupd {backupd.__version__}"])
        raise typer.Exit


def _root(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Has no work of its own: `options.configured_file` reads `config` from the context."""
