"""The parser of the command line: which commands there are, and what `backupd --help` says.

A group of commands is imported when one of its commands is asked for, so that a run pays for the command it runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

import backupd
from backupd.cli.options import EXIT_STATUS, ConfigOption

COMMANDS = {
    "key": "keys",
    "config": "config",
    "setup": "setup",
    "init": "setup",
    "tenancy": "setup",
    "backup": "backup",
    "snapshots": "store",
    "info": "info",
    "ls": "info",
    "diff": "info",
    "verify": "store",
    "restore": "restore",
    "status": "status",
    "doctor": "doctor",
    "tenant": "tenants",
    "purge": "keeper",
    "expire": "keeper",
    "plan": "keeper",
    "ingest": "keeper",
    "replicate": "store",
    "store": "acceptance",
    "ledger": "ledger",
    "attest": "attest",
    "drill": "drill",
    "report": "reports",
    "daemon": "daemon",
    "manual": "manual",
    "completion": "completion",
}
"""The module below `commands` that defines each command, in the order of `backupd --help`."""

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


def build() -> Any:
    """Return the command line as a group of commands, to be called with arguments."""
    app = typer.Typer(
        name="backupd", rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, help=_ABOUT
    )
    app.callback(epilog=EXIT_STATUS)(_root)
    group: Any = typer.main.get_group(app)
    group.commands = LazyCommands()
    return group


class LazyCommands(Mapping[str, Any]):
    """The commands by name; the module of a command is imported when the command is looked up."""

    def __init__(self) -> None:
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded |= commands_of(COMMANDS[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


def commands_of(module: str) -> dict[str, Any]:
    """Import a module below `commands`, and return the commands that it adds, by name."""
    app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    importlib.import_module(f"backupd.cli.commands.{module}").add(app)
    return dict(typer.main.get_group(app).commands)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"backupd {backupd.__version__}")
        raise typer.Exit


def _root(
    config: ConfigOption = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Do nothing: the command that is named does the work, and `options.configured_file` reads `config`."""
