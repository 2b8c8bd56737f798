"""The group `attest`: the proof that a tenant is gone is signed by a second hand, verified and printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, load_context, trusted_keys
from backupd.cli.run import Reply
from backupd.errors import UsageError
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.operations.attestation import Verdict

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="The attestation.")]


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="Attestations that a tenant is gone: sign, verify, print.")
    for command in (countersign, verify, page):
        group.command(command.__name__, epilog=EXIT_STATUS)(command)
    app.add_typer(group, name="attest")


def countersign(
    file: FileArgument,
    key: Annotated[
        Path, typer.Option("--key", metavar="FILE", show_default=False, help="The validator's signing key.")
    ],
    as_json: JsonOption = False,
) -> int:
    """Add a validator's signature to an attestation; its text stays as it is.

    Refused for a file whose signatures are not right. `backupd key generate --signer FILE` makes a key. Verify the
    attestation first, against the ledger: a signature says that you did.

    \b
    Example:
      backupd attest countersign acme.attestation.json --key validator.key
    """
    from backupd.operations.attestation import countersign as sign
    from backupd.operations.attestation.files import read_file, replace_file
    from backupd.seal.documents import signatures_of
    from backupd.seal.keyfiles import read_signer

    signer = read_signer(key)
    signed = sign(read_file(file), signer, str(file))
    replace_file(file, signed)
    number = len(signatures_of(signed, "attestation", str(file)))
    return Reply(
        {"file": str(file), "signatures": number, "public": signer.public},
        [f"{file}: {counted(number, 'signature')}; yours is of {signer.public}"],
    ).print(as_json=as_json)


def verify(
    ctx: typer.Context,
    file: FileArgument,
    ledger: Annotated[
        Path | None,
        typer.Option(
            "--ledger", metavar="FOLDER", show_default=False, help="A copy of the region's folder, or of its ledger."
        ),
    ] = None,
    keeper: Annotated[
        list[str] | None,
        typer.Option(
            "--keeper",
            metavar="KEY",
            show_default=False,
            help="A keeper's public key, 64 hex. [default: [trust] of the configuration]",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Verify an attestation, without a store, a network or a secret.

    Its signatures are checked, and that its dates agree. With a ledger, every entry of it is checked, too, and
    whether it agrees. What was not checked is said: without --ledger the word of the keeper is all there is.

    \b
    Example:
      backupd attest verify acme.attestation.json --keeper $KEY --ledger copy-of-be
    """
    from backupd.operations.attestation import verify_attestation
    from backupd.operations.attestation.files import claims, read_file, read_ledger

    trusted = trusted_keys(keeper) if keeper else load_context(ctx, config).trusted_keepers()
    if not trusted:
        raise UsageError("nobody is trusted", hint="Give the keeper's public key as --keeper KEY.")
    document, where = read_file(file), str(file)
    # By signature first: an unsigned claim must not say which ledger is read.
    verdict = verify_attestation(document, trusted, None, where)
    if ledger is not None:
        verdict = verify_attestation(document, trusted, read_ledger(ledger, claims(document, where), trusted), where)
    return Reply({"good": True, "verdict": verdict}, _verdict_lines(verdict)).print(as_json=as_json)


def page(
    file: FileArgument,
    out: Annotated[
        Path, typer.Option("--out", metavar="PAGE.html", show_default=False, help="The page; never overwritten.")
    ],
    as_json: JsonOption = False,
) -> int:
    """Make a page of an attestation, to read, print and sign by hand.

    One HTML file that fetches nothing. It proves nothing either: the file does, and the page says how to verify that.

    \b
    Example:
      backupd attest page acme.attestation.json --out acme.html
    """
    from backupd.operations.attestation import verify_attestation
    from backupd.operations.attestation.files import claims, read_file, write_new
    from backupd.pages import CheckedSignature, render_attestation

    document, where = read_file(file), str(file)
    verdict = verify_attestation(document, {claims(document, where).performer}, None, where)
    signatures = [CheckedSignature(one.key, one.fingerprint, one.role) for one in verdict.signatures]
    write_new(out, render_attestation(verdict.attestation, verdict.sha256, signatures).encode())
    return Reply(
        {"page": str(out), "sha256": verdict.sha256, "performer": verdict.attestation.performer},
        [
            f"{out}: made of attestation {verdict.sha256}",
            f"  signed by {verdict.attestation.performer}; not checked whose key that is",
        ],
    ).print(as_json=as_json)


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    one = verdict.attestation
    scope = f", class {one.scope}" if one.scope else ""
    yield f"good: attestation {verdict.sha256}"
    yield f"  tenant {one.tenant}, incarnation {one.incarnation}{scope}, region {one.region}"
    since, late = max(store.absent for store in one.stores), "LATE" if one.late else "in time"
    yield f"  nothing left since {since}, due {one.due}: {late}"
    yield f"  the ledger it rests on: --ledger-at-least {one.ledger}"
    for signed in verdict.signatures:
        yield f"  signed by {signed.role} {signed.key}{'' if signed.trusted else ', which nobody said to trust'}"
    for restore in verdict.later_restores:
        yield f"  restored since: {restore.snapshot[:SHORT_NAME]} at {restore.at}, entry {restore.seq} of the ledger"
    yield from (f"  checked: {line}" for line in verdict.checked)
    yield from (f"  NOT checked: {line}" for line in verdict.not_checked)
