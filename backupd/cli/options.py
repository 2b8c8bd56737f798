"""Options every command shares, and the configuration they lead to."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from backupd.errors import EXIT_CODES, UsageError

if TYPE_CHECKING:
    from backupd.wiring.context import Context

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


def grouped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options of every parameter whose type is a dataclass, as if each field were one of its own.

    Several commands share a set of options this way, declared once. Defaults are those of the fields, which are
    annotated as parameters are.
    """
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {name: one.annotation for name, one in own.items() if is_dataclass(one.annotation)}
    shown = [one.replace(kind=one.KEYWORD_ONLY) for name, one in own.items() if name not in groups]
    shown += [one for group in groups.values() for one in _fields(group)]

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        gathered = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        return command(**given, **gathered)

    call.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # what Typer reads, and mypy knows not
    call.__annotations__ = {one.name: one.annotation for one in shown}
    return call


def _fields(group: Any) -> list[inspect.Parameter]:
    """The fields of a dataclass, each with a default, as parameters of a command."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(group)
    ]


def configured_file(ctx: typer.Context, option: Path | None) -> Path:
    """Return the file that `--config`, before or after the command's name, or the environment points to."""
    from backupd.config.load import config_path

    return config_path(option or ctx.find_root().params.get("config"), os.environ)


def load_context(ctx: typer.Context, option: Path | None) -> Context:
    """Load the configuration that the command works with.

    Raises ConfigError.
    """
    from backupd.config.load import load
    from backupd.wiring.context import Context

    return Context(load(configured_file(ctx, option)), os.environ)


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
