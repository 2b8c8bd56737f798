"""The group `key escrow`, which splits an identity into shares and puts it together again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, IdentityOption, JsonOption, PassphraseOption, new_passphrase, open_identity
from backupd.cli.run import Reply
from backupd.errors import RefusedError, UsageError

_STDIN = Path("-")


def add(keys: typer.Typer) -> None:
    """Add the group to the group `key`."""
    group = typer.Typer(rich_markup_mode=None, help="Split an identity into shares, and put it together again.")
    group.command("split", epilog=EXIT_STATUS)(split)
    group.command("combine", epilog=EXIT_STATUS)(combine)
    keys.add_typer(group, name="escrow")


def split(
    shares: Annotated[int, typer.Option("--shares", metavar="N", show_default=False, help="How many are made.")],
    threshold: Annotated[
        int, typer.Option("--threshold", metavar="K", show_default=False, help="How many of them are needed together.")
    ],
    identity: IdentityOption = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", show_default=False, help="Write share-1.txt, … there; never over one."),
    ] = None,
    print_: Annotated[bool, typer.Option("--print", help="Print the shares instead, a page each.")] = False,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> int:
    """Split an identity into N shares of words, any K of which restore it. Fewer say nothing.

    Each share is a page of 84 numbered words (SLIP-39), with a checksum: to print, to keep in different hands, and to
    type in again. The shares are tried out before this says that they are made. The identity stays as it is; where it
    is to exist as shares only, destroy its file afterwards.

    \b
    Examples:
      backupd key escrow split --identity escrow.identity --shares 5 --threshold 3 --out shares
      backupd key escrow split --identity escrow.identity --shares 3 --threshold 2 --print | lp
    """
    from backupd.operations.keys import split_identity, write_shares

    if (out is None) != print_:
        raise UsageError("the shares have to go somewhere", hint="Give --out FOLDER, or --print.")
    if print_ and as_json:
        raise UsageError("--print and --json exclude each other", hint="JSON never holds a secret; give --out FOLDER.")
    made, pages = split_identity(open_identity(identity, passphrase_file).secret, shares, threshold)
    if out is None:
        sys.stdout.write("\f".join(pages))
        return 0
    files = [str(path) for path in write_shares(out, pages)]
    line = f"any {threshold} of these restore the identity of recipient {made.recipient}"
    return Reply({"split": made, "files": files}, [*files, line]).print(as_json=as_json)


def combine(
    shares: Annotated[
        list[Path], typer.Argument(metavar="SHARE...", help="Share files; `-` reads shares from standard input.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", show_default=False, help="The identity file; never overwritten.")
    ],
    recipient: Annotated[
        Path | None,
        typer.Option("--recipient", metavar="FILE", show_default=False, help="Of whom. [default: the shares say it]"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", show_default=False, help="Whose it is. [default: FILE's name]")
    ] = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> int:
    """Put an identity together from its shares, into an identity file with a new passphrase.

    Before anything is written, the identity is checked: it must be the recipient's, and open what is sealed to that.
    Words that are typed in stand in their order, with or without their numbers; a blank line separates shares. A word
    that is wrong is named by its number.

    \b
    Examples:
      backupd key escrow combine share-1.txt share-4.txt share-5.txt --out escrow.identity
      backupd key escrow combine - --recipient /etc/backupd/escrow.recipient --out escrow.identity
    """
    from backupd.operations.keys import ShareText, combine_shares, read_shares, write_combined
    from backupd.seal.keyfiles import read_recipient

    if out.exists() or out.is_symlink():
        raise RefusedError(f"'{out}' exists", hint="A key file is never overwritten; name another one.")
    public = None if recipient is None else read_recipient(recipient).public
    texts = [ShareText("standard input", sys.stdin.read()) if one == _STDIN else read_shares(one) for one in shares]
    pair = combine_shares(texts, public)
    made = write_combined(out, name or out.stem, pair, new_passphrase(passphrase_file, str(out)))
    facts: dict[str, output.Cell] = {"identity": str(out), "fingerprint": made.fingerprint}
    return Reply(facts, output.fact_lines(facts)).print(as_json=as_json)
