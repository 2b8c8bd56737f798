"""Make identities, check which keyrings they open, split them into shares for escrow, and combine shares again into an
identity that is proven to be the wanted one before anybody relies on it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import ConfigError, KeyRefusedError, RefusedError, UsageError
from backupd.model.ids import Fingerprint, GenerationId, ObjectName, RunId
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.escrow import Share, combine, parse, split
from backupd.seal.keyfiles import Recipient, write_identity, write_recipient


@dataclass(frozen=True, slots=True)
class CheckedKeyring:
    """One keyring, and whether the identity opened it."""

    generation: GenerationId
    run: RunId
    opened: bool
    segments: int
    shredded: int
    recipients: tuple[Fingerprint, ...]
    """Fingerprints of the recipients who can open it."""


def generate_identity(
    identity: Path, recipient: Path, name: str, passphrase: str, *, random: Callable[[int], bytes] = os.urandom
) -> Recipient:
    """Make a key pair: write its secret half under a passphrase to `identity`, its public half to `recipient`.

    Raises RefusedError when one of the files exists, before anything is written; ConfigError when one cannot be
    written.
    """
    require_new(identity, recipient)
    pair = suite.generate()
    made = Recipient(name, pair.public)
    # The secret half first: a recipient nobody has the identity of would be sealed to for nothing.
    write_identity(identity, name, pair, passphrase, random=random)
    write_recipient(recipient, made)
    return made


def require_new(*paths: Path) -> None:
    """Raise RefusedError for a file that exists: before a passphrase is asked for, and before anything is written."""
    for path in paths:
        if path.exists() or path.is_symlink():
            raise RefusedError(f"'{path}' exists", hint="A key file is never overwritten; name another one.")


def check_identity(repository: Repository, secret: bytes) -> list[CheckedKeyring]:
    """Return the repository's keyrings, oldest first, and whether this identity opens each.

    Every key in those it opens is authenticated. The list is empty when there are none yet. Raises KeyRefusedError when
    there are some and it opens none of them, DamageError for a keyring that is not what it should be.
    """
    repository.info()
    names = sorted(found.name for found in repository.store.list(layout.KEYRINGS))
    found = [
        _checked(repository, name, secret) for name in names if layout.place_of(name).kind is layout.ObjectKind.KEYRING
    ]
    refusals = [refusal for _, refusal in found if refusal is not None]
    if refusals and len(refusals) == len(found):
        raise refusals[-1]
    return [checked for checked, _ in found]


def _checked(repository: Repository, name: ObjectName, secret: bytes) -> tuple[CheckedKeyring, KeyRefusedError | None]:
    keyring = repository.keyring(name)
    refusal: KeyRefusedError | None = None
    try:
        keyring.open(secret)
    except KeyRefusedError as error:
        refusal = error
    checked = CheckedKeyring(
        generation=keyring.ids.generation,
        run=keyring.ids.run,
        opened=refusal is None,
        segments=len(keyring.index),
        shredded=len(keyring.shredded),
        recipients=tuple(keyring.wraps),
    )
    return checked, refusal


_COLUMNS = 4
"""Words in each printed row of a share."""
_TOKEN = re.compile(r"[A-Za-z]+")
_RECIPIENT = re.compile(r"^# recipient ([0-9a-f]{32})$", re.MULTILINE)
_LARGEST = 64 << 10
"""Bytes that a share file may have at most."""


@dataclass(frozen=True, slots=True)
class ShareText:
    """The text of a share as somebody handed it in: a file's, or typed."""

    name: str
    content: str


@dataclass(frozen=True, slots=True)
class Split:
    """The shares of one identity: how many were made, and how many restore it."""

    recipient: Fingerprint
    set: int
    threshold: int
    shares: int


def split_identity(secret: bytes, number: int, threshold: int) -> tuple[Split, list[str]]:
    """Split an identity; returns the text of each share, a page to print, keep and type in again.

    Raises RefusedError for numbers that make no sense.
    """
    shares = split(secret, number, threshold)
    recipient = suite.fingerprint(suite.public_of(secret))
    made = Split(recipient, shares[0].set, threshold, number)
    return made, [_page(share, made) for share in shares]


def write_shares(folder: Path, pages: Sequence[str]) -> list[Path]:
    """Write each share to a file of its own that only its owner may read; returns the files.

    Raises RefusedError when one of them exists, before anything is written; ConfigError when one cannot be written.
    """
    paths = [folder / f"share-{number}.txt" for number in range(1, len(pages) + 1)]
    taken = [path for path in paths if path.exists() or path.is_symlink()]
    if taken:
        raise RefusedError(f"'{taken[0]}' exists", hint="A share is never overwritten; name another folder.")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, page in zip(paths, pages, strict=True):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(page)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(f"the shares cannot be written to '{folder}': {error.strerror}") from error
    return paths


def read_shares(path: Path) -> ShareText:
    """Read a share file's text.

    Raises ConfigError when it cannot be read, is larger than 64 KiB, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) <= _LARGEST:
            return ShareText(path.name, data.decode())
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        pass
    raise ConfigError(f"'{path}' is no share", hint="A share is a short text of words.")


def combine_shares(texts: Iterable[ShareText], public: bytes | None) -> suite.KeyPair:
    """Return the identity that the shares restore, after checking that it is the wanted one.

    Wanted is the secret half of `public`, or of the recipient that the share files name. Raises KeyRefusedError for
    shares that are too few, of two sets, or mistyped, and when they restore another identity; UsageError when nothing
    says which one is wanted.
    """
    given = list(texts)
    shares = [share for text in given for share in _shares(text)]
    if not shares:
        raise UsageError("there is no share", hint="Name the files, or `-` for standard input.")
    wanted = {name for text in given for name in _RECIPIENT.findall(text.content)}
    if public is not None:
        wanted = {suite.fingerprint(public)}
    if not wanted:
        raise UsageError(
            "nothing says which recipient the identity is to be of", hint="Name its file with --recipient FILE."
        )
    secret = combine(shares)
    pair = suite.KeyPair(secret, suite.public_of(secret))
    if wanted != {suite.fingerprint(pair.public)} or not _opens(pair):
        raise KeyRefusedError(
            f"these shares restore the identity {suite.fingerprint(pair.public)}, and {', '.join(sorted(wanted))} is "
            "wanted",
            hint="Nothing was written. They are of another set.",
        )
    return pair


def write_combined(path: Path, name: str, pair: suite.KeyPair, passphrase: str) -> Recipient:
    """Write the identity to a new file; raises what `write_identity` does."""
    write_identity(path, name, pair, passphrase)
    return Recipient(name, pair.public)


def _opens(pair: suite.KeyPair) -> bool:
    """Check whether the secret half opens what is sealed to the public one."""
    message = os.urandom(suite.KEY_SIZE)
    try:
        return suite.unseal(pair.secret, b"escrow", suite.seal(pair.public, b"escrow", message)) == message
    except suite.NotAuthenticError:
        return False


def _shares(text: ShareText) -> Iterable[Share]:
    """Yield the shares of a text.

    A blank line stands between shares; lines that begin with `#`, and numbers, are ignored.
    """
    lines = [line for line in text.content.splitlines() if not line.lstrip().startswith("#")]
    blocks = [block for block in re.split(r"\n\s*\n", "\n".join(lines)) if _TOKEN.search(block)]
    for number, block in enumerate(blocks, start=1):
        name = text.name if len(blocks) == 1 else f"{text.name}, share {number}"
        yield parse([word for word in block.split() if not word.rstrip(".").isdigit()], name)


def _page(share: Share, made: Split) -> str:
    words = [f"{number:>3}. {word}" for number, word in enumerate(share.words, start=1)]
    height = -(-len(words) // _COLUMNS)
    # By rows, so that a line read aloud or typed from the left to the right is in order.
    rows = [words[at : at + _COLUMNS] for at in range(0, height * _COLUMNS, _COLUMNS)]
    head = [
        f"# backupd: share {share.number} of {made.shares}, set {share.set}",
        f"# recipient {made.recipient}",
        f"# Any {made.threshold} of these {made.shares} shares restore the identity of this recipient, and with it",
        f"# everything that was ever sealed to it. Fewer than {made.threshold} say nothing. Keep it like that.",
        "# To restore: backupd key escrow combine SHARE SHARE … --out FILE, or any program for SLIP-39.",
    ]
    return "\n".join([*head, *("".join(f"{cell:<19}" for cell in row).rstrip() for row in rows), ""])
