"""The program: command line in, exit status out. Signals and errors end here; everything else is in `commands`.

The parser: which commands there are, and what `backupd --help` says.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

import backupd
from backupd.allocator import restrain
from backupd.cli import commands, output, supervised
from backupd.cli.options import EXIT_STATUS, ConfigOption
from backupd.errors import InterruptedRunError, UsageError


def run() -> NoReturn:
    """The console script."""
    restrain()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status, one of errors.EXIT_CODES."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    # What libraries log may quote rows; whatever matters arrives as an error.
    logging.getLogger().addHandler(logging.NullHandler())
    as_json = "--json" in arguments
    try:
        supervised.die_with_the_daemon(os.environ)
        result = build()(list(arguments) or ["--help"], prog_name="backupd", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        return output.report(_usage_error(error), as_json=as_json)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, InterruptedRunError) as error:  # noqa: BLE001 - the one place where every failure becomes an exit status
        return output.report(error, as_json=as_json)
    if not arguments:
        return UsageError.exit_code
    return result if isinstance(result, int) else 0


def _interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind through every `finally`; a second signal is not caught, for whoever cannot wait."""
    signal.signal(number, signal.SIG_DFL)
    name = signal.Signals(number).name
    raise InterruptedRunError(
        f"stopped by {name}", hint="What was published stays valid; run the same command again to go on from there."
    )


def _usage_error(error: typer.TyperException) -> UsageError:
    """Typer's complaint in our words; what it raises at an end of input says nothing itself."""
    describe = getattr(error, "format_message", None)
    message = describe() if describe else "the input ended before it was complete"
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "backupd"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=f"`{command} --help` explains it.")


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
