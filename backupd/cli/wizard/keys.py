"""The questions about keys, and the keys: who can read the backups, who signs, and what stands for tenants."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from backupd.cli.options import new_passphrase
from backupd.cli.wizard import dialogue
from backupd.errors import BackupdError, RefusedError, UsageError
from backupd.operations.keys import generate_identity
from backupd.seal.keyfiles import holds_identity, read_recipient, write_signer
from backupd.seal.tags import write_tenant_key

IDENTITIES = ("ops", "escrow")


@dataclass(frozen=True, slots=True)
class KeyAnswers:
    """The names of the files that were made, and the public keys that the configuration names."""

    recipients: tuple[str, ...]
    """Names of the recipient files in the staged folder."""
    identities: tuple[str, ...]
    """Names of the identities that were made here, to be moved away; none when they were made elsewhere."""
    there: frozenset[str]
    """Names of recipient files that lie in their final place already."""
    signer: str
    keeper: str
    keeps: bool


def ask_keys(staged: Path, home: Path) -> KeyAnswers:
    """Ask for recipients and the keeper, and make every key that this machine needs, and the keeper's."""
    dialogue.tell(
        "Who can read the backups: two identities or more, one of them for escrow. Better made on a machine that is "
        "not this one, by `backupd key generate ops.identity`; only .recipient files come here."
    )
    while True:
        given = dialogue.ask_if_any("Recipient files, separated by blanks; none: make two identities here")
        try:
            paths = [Path(text).expanduser() for text in given.split()]
            recipients = _copied(staged, paths)
        except BackupdError as error:
            dialogue.complain(error)
            continue
        break
    identities = () if recipients else _make_identities(staged)
    dialogue.tell("The keeper removes what must go. Better on a machine of its own, so that who breaks in here cannot.")
    keeps = dialogue.agree("Is this machine the keeper, too?")
    write_tenant_key(staged / "tenant.key")
    signer, keeper = write_signer(staged / "signing.key"), write_signer(staged / "keeper.key")
    made = tuple(f"{name}.recipient" for name in IDENTITIES) if identities else recipients
    there = frozenset(path.name for path in paths if path.resolve().parent == home.resolve())
    return KeyAnswers(made, identities, there, signer.public, keeper.public, keeps)


def _copied(staged: Path, given: list[Path]) -> tuple[str, ...]:
    names: list[str] = []
    for path in given:
        read_recipient(path)
        if holds_identity(path):
            raise _identity_here(path)
        if path.name in names:
            raise BackupdError(f"two files are called '{path.name}'", hint="Rename one of them.")
        shutil.copyfile(path, staged / path.name)
        (staged / path.name).chmod(0o644)
        names.append(path.name)
    return tuple(names)


def _identity_here(path: Path) -> BackupdError:
    return BackupdError(f"'{path}' is an identity", hint="It belongs somewhere else; name its .recipient file.")


def _passphrase(name: str) -> str:
    while True:
        try:
            return new_passphrase(None, name)
        except EOFError:
            raise RefusedError(dialogue.STOPPED, hint=dialogue.AGAIN) from None
        except UsageError as error:
            dialogue.complain(error)


def _make_identities(staged: Path) -> tuple[str, ...]:
    for name in IDENTITIES:
        dialogue.say("", f"A passphrase for {name}.identity, which opens the backups together with it:")
        file = staged / f"{name}.identity"
        generate_identity(file, staged / f"{name}.recipient", name, _passphrase(file.name))
    return tuple(f"{name}.identity" for name in IDENTITIES)
