"""The signed profile of a store in `repository.json`: whom it names, and how a wanted change of it is accepted. The
files for people without backupd, whose hashes it has, are brought up to date with it.

The document is replaced as a whole, by an account that may replace. It keeps a list of what was accepted, when, by whom
and for which reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from typing import Any

import msgspec

from backupd.clock import Clock
from backupd.errors import RefusedError, StoreError, StoreFullError, StoreGoneError
from backupd.model.documents import RepositoryInfo, decode_body, encode_body
from backupd.model.ids import ObjectHash
from backupd.model.status import Change
from backupd.model.text import stamp
from backupd.operations.status.capabilities import compared
from backupd.repository import help_files, layout
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer, read_document
from backupd.store.probe import ProbedStore, probe

_ACCEPTED = "accepted"
"""The member of `extra` that lists what was accepted, oldest first."""


@dataclass(frozen=True, slots=True)
class AcceptRequest:
    """The wish to accept what is true of a store now."""

    signer: Signer = field(repr=False)
    signers: frozenset[str]
    """Public keys of the signers to be named; empty: those that are named stay, and the signer."""
    keepers: frozenset[str]
    """Public keys of the keepers to be named; empty: those that are named stay."""
    reason: str
    """A reference that can be looked up."""
    clock: Clock
    random: Callable[[int], bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The difference between what the repository said of its store, and what it says now."""

    changes: tuple[Change, ...]
    named: tuple[str, ...]
    """Public keys of signers and keepers that it names from now on."""
    dropped: tuple[str, ...]
    """Public keys that it names no longer."""

    @property
    def changed(self) -> bool:
        """Say whether there is any difference."""
        return bool(self.changes or self.named or self.dropped)


def accept(repository: Repository, writer: ProbedStore, request: AcceptRequest) -> Accepted:
    """Probe a store with its writer's account, and have its repository say what is true now.

    `repository` is opened with an account that may replace. Nothing is written, apart from the probe, when nothing
    changed. Raises DamageError, RefusedError, and StoreError where the account may not replace.
    """
    document, accepted = accepted_document(repository, writer, request)
    if accepted.changed:
        put_accepted(repository, document)
    return accepted


def accepted_document(repository: Repository, writer: ProbedStore, request: AcceptRequest) -> tuple[bytes, Accepted]:
    """Probe a store with its writer's account, and sign the document that says what is true now.

    Raises DamageError, RefusedError, StoreError.
    """
    info, profile = repository.info(), msgspec.to_builtins(probe(writer, request.random))
    signers = request.signers or frozenset(info.signers) | {request.signer.public}
    keepers = request.keepers or frozenset(info.keepers)
    before, now = {*info.signers, *info.keepers}, {*signers, *keepers}
    changes = *compared(info.profile, profile), *_newer_help(info)
    accepted = Accepted(changes, tuple(sorted(now - before)), tuple(sorted(before - now)))
    entry = {
        "at": stamp(request.clock.now()),
        "reason": request.reason,
        "signer": request.signer.public,
        "changes": {one.what: [one.before, one.now] for one in accepted.changes},
    }
    changed = msgspec.structs.replace(
        info,
        signers=sorted(signers),
        keepers=sorted(keepers),
        profile=profile,
        help=help_files.own_hashes(),
        extra={**info.extra, _ACCEPTED: [*_accepted(info.extra), entry]},
    )
    return request.signer.sign(encode_body(changed), "repository"), accepted


def put_accepted(repository: Repository, document: bytes) -> None:
    """Replace a repository's document by one that a trusted signer made of it.

    Raises DamageError for a document that nobody trusted signed, RefusedError for one of another repository, one that
    lacks what was accepted meanwhile, or one by another version of this program, whose files for people without it are
    not here; StoreError where the account may not replace.
    """
    there = repository.info()
    info = decode_body(
        read_document(document, "repository", repository.signers, layout.REPOSITORY), RepositoryInfo, layout.REPOSITORY
    )
    if (info.repository, info.region, info.created) != (there.repository, there.region, there.created):
        raise RefusedError("the document is of another repository", hint="Nothing was changed; name another store.")
    known = _accepted(there.extra)
    if _accepted(info.extra)[: len(known)] != known:
        raise RefusedError(
            "something was accepted since the document was made", hint="Nothing was changed; make it again."
        )
    if info.help not in (there.help, help_files.own_hashes()):
        raise RefusedError(
            f"the document names the hash of another `{layout.SCRIPT}` than this program's",
            hint="Have the same version of backupd where the document is made and here, and make it again.",
        )
    # Before the document: until that is there, `verify` says that they are not what was put, and a second try ends it.
    files = help_files.own_files() if info.help != there.help else {}
    try:
        for name, data in (*files.items(), (layout.REPOSITORY, document)):
            if repository.store.stat(name) is None:
                repository.put_document(name, data)
                continue
            repository.store.replace(name, BytesIO(data), len(data), ObjectHash(sha256(data).hexdigest()))
    except (StoreGoneError, StoreFullError):
        raise
    except StoreError as error:
        raise StoreError(
            "this account may not replace the repository's document",
            hint="Where the signing key is, `--write FILE` makes the document; on the keeper, `--from FILE` puts it.",
        ) from error


def _newer_help(info: RepositoryInfo) -> Iterator[Change]:
    """Yield the files for people without backupd that this program has in another version than the store."""
    for name, own in help_files.own_hashes().items():
        if (signed := info.help.get(name)) != own:
            yield Change(name, f"SHA-256 {signed[:16]}…" if signed else "unknown", f"SHA-256 {own[:16]}…")


def _accepted(extra: Mapping[str, Any]) -> list[Any]:
    found = extra.get(_ACCEPTED)
    return list(found) if isinstance(found, list) else []
