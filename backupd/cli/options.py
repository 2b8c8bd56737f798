"""Options every command shares, and the configuration they lead to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.errors import EXIT_CODES, UsageError

if TYPE_CHECKING:
    from backupd.wiring import Wiring

EXIT_STATUS = "\b\nExit status:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
"""What closes every help text; computed, so that it cannot disagree with the program. `\\b` keeps its lines apart."""

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default=False,
        help="The configuration. [default: $BACKUPD_CONFIG, else /etc/backupd/backupd.toml]",
    ),
]
RegionArgument = Annotated[
    list[str] | None, typer.Argument(metavar="REGION", show_default=False, help="Only these regions. [default: all]")
]
DatabaseOption = Annotated[
    str | None, typer.Option("--database", metavar="LABEL", show_default=False, help="Only this database.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object, not text; for errors, too.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="NAME", show_default=False, help="Read from this store. [default: the region's first]"
    ),
]
StoresOption = Annotated[
    str | None, typer.Option("--store", metavar="NAME", show_default=False, help="Only this store. [default: all]")
]
IdentityOption = Annotated[
    Path | None,
    typer.Option("--identity", metavar="FILE", show_default=False, help="The identity file that opens the backups."),
]
PassphraseOption = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        show_default=False,
        help="Read the identity's passphrase from the first line of FILE, or of the systemd credential:NAME. "
        "Without it, it is asked for on the terminal.",
    ),
]


def configured_file(context: typer.Context, option: Path | None) -> Path:
    """The file that `--config`, before or after the command's name, or the environment points to."""
    from backupd.config.load import config_path

    return config_path(option or context.find_root().params.get("config"), os.environ)


def wired(context: typer.Context, option: Path | None) -> Wiring:
    """The whole configuration, ready to make adapters.

    Raises ConfigError.
    """
    from backupd.config.load import load
    from backupd.wiring import Wiring

    return Wiring(load(configured_file(context, option)), os.environ)


def trusted_keys(given: list[str]) -> frozenset[str]:
    """The values of `--keeper`: public keys in hex.

    Raises UsageError for what is none, and for a key whose secret half is public.
    """
    from backupd.model.known_keys import is_known_signer

    if any(len(key) != 64 or set(key) - set("0123456789abcdef") for key in given):
        raise UsageError("--keeper is not a public key", hint="It has 64 hex digits; a fingerprint is not enough.")
    if any(is_known_signer(key) for key in given):
        raise UsageError(
            "--keeper is a key that anybody can sign with",
            hint="Ask the keeper's operator for the key that `backupd key generate --signer FILE` printed.",
        )
    return frozenset(given)
