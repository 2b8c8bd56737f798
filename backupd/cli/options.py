"""The options that several commands share, and the values that they lead to.

A passphrase comes from a file, a systemd credential, or the terminal without echo; never from an argument.
"""

from __future__ import annotations

import functools
import getpass
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from backupd.errors import ConfigError, KeyRefusedError, UsageError

if TYPE_CHECKING:
    from backupd.model.documents import LedgerHead
    from backupd.model.ids import RegionName, TenantId
    from backupd.seal.suite import KeyPair
    from backupd.wiring.context import Context

EXIT_STATUS = "`backupd manual exit-status` lists the exit statuses."
"""The line that closes every help text; the manual prints the list from `errors.EXIT_CODES`."""

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
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but warnings and what went wrong.")]
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
AtLeastOption = Annotated[
    str | None,
    typer.Option(
        "--ledger-at-least",
        metavar="SEQ:HASH",
        show_default=False,
        help="Refuse a ledger without this entry, which a runbook, report or attestation names.",
    ),
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
    """Return the fields of a dataclass, each with a default, as parameters of a command."""
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

    context = Context(load(configured_file(ctx, option)), os.environ)
    if os.geteuid() == 0:
        ctx.call_on_close(lambda: _hand_over(context))
    return context


def _hand_over(context: Context) -> None:
    """Leave nothing of root's where the service runs as another user."""
    from backupd.wiring.owner import hand_over

    hand_over(context.config.node.state_dir)
    # Beside the regions' folders a drill may have its server there, whose files belong to whom it runs as.
    hand_over(context.config.node.spool_dir, context.config.regions.keys())


def trusted_keys(given: list[str]) -> frozenset[str]:
    """Return the values of `--keeper`, public keys in hex, as a set.

    Raises UsageError for a value that is no key, and for a key whose secret half is public.
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


@contextmanager
def recipients_named(context: Context) -> Iterator[None]:
    """Put the names of the configured recipients beside their fingerprints where an identity is refused."""
    try:
        yield
    except KeyRefusedError as error:
        raise with_recipients(context, error) from error


def with_recipients(context: Context, error: KeyRefusedError) -> KeyRefusedError:
    """Return the error with the names of the configured recipients beside their fingerprints."""
    from backupd.seal.suite import fingerprint
    from backupd.wiring.context import configured_recipients

    message, hint = error.message, error.hint
    for one in configured_recipients(context):
        print_ = fingerprint(one.public)
        message, hint = (text.replace(print_, f"{print_} ({one.name})") for text in (message, hint))
    return type(error)(message, hint=hint)


def ledger_head(given: str | None) -> LedgerHead | None:
    """Return the entry that `--ledger-at-least` names.

    Raises UsageError for another text.
    """
    from backupd.model.documents import parse_head

    try:
        return None if given is None else parse_head(given)
    except ValueError:
        raise UsageError(
            "--ledger-at-least takes the number of an entry and the 64 hex digits of its hash, as 12:a5…",
            hint="Runbooks, drill reports and attestations print it like that; `backupd ledger show --json` has both.",
        ) from None


MIN_LENGTH = 10
"""Characters that a new passphrase has at least: scrypt makes a guess cost 0.2 s, and does no more than that."""
_MAX_BYTES = 4096
"""Bytes of a passphrase file's first line that are read."""


def read_passphrase(file: str | None, purpose: str) -> str:
    """Return the passphrase of an existing identity.

    Raises UsageError when there is neither a file nor a terminal, ConfigError when the file cannot be read.
    """
    return _from_file(file) if file is not None else _ask(f"Passphrase of {purpose}: ")


def open_identity(file: Path | None, passphrase_file: str | None) -> KeyPair:
    """Return the key pair in an identity file; on a terminal its passphrase is asked for.

    Raises UsageError without a file, ConfigError, KeyRefusedError.
    """
    from backupd.seal.keyfiles import read_identity

    if file is None:
        raise UsageError("this needs an identity", hint="Name the identity file with --identity FILE.")
    if not file.is_file():
        raise ConfigError(f'there is no identity file "{file}"', hint="Bring it from where it is kept, for this once.")
    return read_identity(file, read_passphrase(passphrase_file, str(file)))


def new_passphrase(file: str | None, purpose: str) -> str:
    """Return the passphrase for a new identity; on a terminal it is asked for twice.

    Raises UsageError when it is too short or the two differ.
    """
    passphrase = _from_file(file) if file is not None else _ask(f"New passphrase of {purpose}: ")
    if len(passphrase) < MIN_LENGTH:
        raise UsageError(
            f"the passphrase is shorter than {MIN_LENGTH} characters", hint="Six random words are a good one."
        )
    if file is None and passphrase != _ask("The same again: "):
        raise UsageError("the two passphrases differ", hint="Nothing was written; try again.")
    return passphrase


def _ask(prompt: str) -> str:
    """Read a passphrase from the terminal, without echo. Raises UsageError without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the passphrase on", hint="Give --passphrase-file FILE or credential:NAME."
        )
    return getpass.getpass(prompt)


def _from_file(name: str) -> str:
    """Return the first line of a file, or of a systemd credential. Raises ConfigError when there is none."""
    from backupd.config.secrets import parse_file_ref

    path = parse_file_ref(name).resolve(os.environ) if name.startswith("credential:") else Path(name)
    try:
        with path.open("rb") as file:
            first = file.readline(_MAX_BYTES)
        text = first.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f'the passphrase file "{name}" cannot be read: {error.strerror}') from None
    except UnicodeDecodeError:
        raise ConfigError(f'the passphrase file "{name}" is not UTF-8 text') from None
    if not text:
        raise ConfigError(f'the first line of the passphrase file "{name}" is empty')
    return text


RegionOption = Annotated[str, typer.Argument(metavar="REGION", show_default=False)]
TenantArgument = Annotated[
    str,
    typer.Argument(
        metavar="TENANT",
        show_default=False,
        help="The tenant as the database names it; - reads the name from standard input, which no list of processes "
        "shows.",
    ),
]
IdOption = Annotated[bool, typer.Option("--id", help="TENANT is the opaque id that `tenant list` shows, not a name.")]
UnknownOption = Annotated[
    bool, typer.Option("--unknown", help="Change it though no store, no ledger entry and no query knows the tenant.")
]
ClassOption = Annotated[
    str, typer.Option("--class", metavar="CLASS", show_default=False, help="Only this class, which has its own dates.")
]
AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="TIME", show_default=False, help="When it happened (ISO 8601, UTC). [default: now]"),
]
ReferenceArgument = Annotated[
    str, typer.Argument(metavar="REFERENCE", show_default=False, help="A number that can be looked up; never a name.")
]
_ID = 32
"""Hex digits of a tenant's id."""


def tenant_of(context: Context, region: RegionName, given: str, *, is_id: bool) -> TenantId:
    """Return the id of a tenant, which was given by its name or, with `is_id`, by the id itself.

    Raises UsageError for an id that is none, or an empty name.
    """
    return tenant_named(context, region, typed_tenant(given), is_id=is_id)


def typed_tenant(given: str) -> str:
    """Return the text that names a tenant: the argument, or for `-` the first line of standard input."""
    return sys.stdin.readline().rstrip("\n") if given == "-" else given


def tenant_named(context: Context, region: RegionName, text: str, *, is_id: bool) -> TenantId:
    """Return the id of the tenant that the text names; what `tenant_of` raises is raised here."""
    from backupd.model.ids import TenantId
    from backupd.wiring.context import tenant_tags

    if is_id:
        if len(text) != _ID or set(text) - set("0123456789abcdef"):
            raise UsageError("that is no tenant's id", hint="`backupd tenant list` shows them: 32 hex digits.")
        return TenantId(text)
    if not text:
        raise UsageError("no tenant is named")
    return tenant_tags(context, region).tenant_id(text)


def region_of(context: Context, name: str) -> RegionName:
    """Return the region of this name. Raises UsageError when it is not configured."""
    return context.regions([name])[0]


def instant_of(text: str | None) -> datetime | None:
    """Return the instant that an option names, if it was given. Raises UsageError for other text."""
    return None if text is None else parse_instant(text)


def parse_instant(text: str) -> datetime:
    """Parse an instant in ISO 8601, in UTC unless it names another zone. Raises UsageError for other text."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f'"{text[:40]}" is no time', hint="Write it like 2026-11-01 or 2026-11-01T14:00 (UTC)."
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
