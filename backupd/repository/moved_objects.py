"""Objects of ours under names that are not theirs, found by their content before a keeper clears such names.

Publishing is a rename, so who may add and nothing else may also move what is there: into `tmp/`, to the name of a lease
or a mark, wherever keepers remove what is none of theirs. What they remove there must be looked at first.

`backupd manual trust`, row *names, sizes and times of objects*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Iterable, Mapping

from backupd.errors import UNSOUND, DamageError, ObjectMissingError
from backupd.model.ids import ObjectHash, ObjectName, Pseudonym
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.repository.packs import FIRST_READ, fetch_section, read_head
from backupd.repository.repository import Repository
from backupd.seal.keyring import Keyring, parse_keyring
from backupd.seal.pack import MAGIC, PACK_LIMIT, read_header
from backupd.store.base import Store

_PIECE = 4 << 20
_DOCUMENT = b'{"'
"""How every signed document begins."""
_DOCUMENTS = (
    layout.ObjectKind.ATTESTATION,
    layout.ObjectKind.REPORT,
    layout.ObjectKind.RECORD,
    layout.ObjectKind.ENTRY,
    layout.ObjectKind.REPOSITORY,
)
"""Kinds of objects that nothing changes while a keeper works once they are in their place."""


def find_moved(
    repository: Repository,
    names: Iterable[ObjectName],
    needed: Collection[ObjectName],
    filed: Mapping[ObjectHash, ObjectName],
    threads: int,
) -> dict[ObjectName, ObjectName]:
    """Return, of objects that are to be removed, those that are a needed pack or keyring by their content, or one of
    the `filed` documents by its hash: by the name where each lies, the one where it belongs.

    Reads the first bytes of each, so many at once, and more only of what begins as ours do.
    """
    documents = frozenset(filed.values())

    def belongs(name: ObjectName) -> ObjectName | None:
        where = place_by_content(repository, name, filed)
        return where if where in needed or where in documents else None

    found: dict[ObjectName, ObjectName] = {}
    for name, looked in in_parallel(belongs, names, threads):
        try:
            where = looked.result()
        except UNSOUND:
            continue
        if where is not None and where != name:
            found[name] = where
    return found


def place_by_content(
    repository: Repository, name: ObjectName, filed: Mapping[ObjectHash, ObjectName]
) -> ObjectName | None:
    """Return the name that an object has in its own place, by its content: of a pack, a keyring, or one of the `filed`
    documents by its hash; None for anything else.

    Raises DamageError, RefusedError for what begins as ours and cannot be read, ObjectMissingError.
    """
    start = repository.store.get(name, 0, FIRST_READ)
    if start.startswith(MAGIC):
        head = read_head(lambda size: start if size <= FIRST_READ else repository.store.get(name, 0, size), name)
        header = read_header(head, name)
        return layout.pack_name(header.context.generation, header.sha256)
    if start.startswith(_DOCUMENT):
        data = repository.read(name, "keyring")
        if (document := filed.get(ObjectHash(hashlib.sha256(data).hexdigest()))) is not None:
            return document
        ids = _keyring(repository, name, data).ids
        return layout.keyring_name(ids.generation, ids.run)
    return None


def require_in_place(repository: Repository, name: ObjectName, moved: ObjectName, gone: Collection[Pseudonym]) -> None:
    """Read what stands under the name of a pack, keyring or document, as it was found under another one: `moved`.

    `gone` are the segments whose keys may be missing. Raises DamageError, RefusedError, or ObjectMissingError unless
    all of it is there, and the store's errors.
    """
    place = layout.place_of(name)
    if place.kind is layout.ObjectKind.KEYRING:
        there = _keyring(repository, moved, repository.read(moved, "keyring"))
        lost = repository.keyring(name).shredded - there.shredded - set(gone)
        if lost:
            raise DamageError(f"'{name}' lost the key of segment {min(lost)}, and no purge took it")
    elif place.kind in _DOCUMENTS:
        if repository.read(name, "keyring") != repository.read(moved, "keyring"):
            raise DamageError(f"'{name}' is not what was found as '{moved}'")
    elif place.generation is not None and place.sha256 is not None:
        for section in repository.pack(place.generation, place.sha256).sections():
            fetch_section(repository.store, section)


def clear_place(store: Store, name: ObjectName, kind: str | None = None) -> None:
    """Remove what stands where only documents of this kind belong, or only short marks; nothing, when it is gone.

    What may be another object of ours is copied into `tmp/` first, where an expiry looks whether somebody misses it.
    """
    try:
        start = store.get(name, 0, _PIECE)
        if begins_as_ours(start) and not (kind is not None and f'"kind":"{kind}"'.encode() in start):
            _copy_aside(store, name)
    except ObjectMissingError:
        return
    store.remove(name)


def begins_as_ours(start: bytes) -> bool:
    """Check whether an object may be a pack or a signed document, by its first bytes."""
    return start.startswith((MAGIC, _DOCUMENT))


def _copy_aside(store: Store, name: ObjectName) -> None:
    seen = store.stat(name)
    if seen is None or seen.size > PACK_LIMIT:
        return
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as copy:
        for at in range(0, seen.size, _PIECE):
            piece = store.get(name, at, min(_PIECE, seen.size - at))
            digest.update(piece)
            copy.write(piece)
        size, sha256 = copy.tell(), ObjectHash(digest.hexdigest())
        # Named by its content, so that a second try finds the first one's copy.
        store.put_new(ObjectName(f"{layout.TEMPORARY}/{sha256[:32]}"), copy, size, sha256)


def _keyring(repository: Repository, name: ObjectName, data: bytes) -> Keyring:
    """Parse a keyring that may lie anywhere. Raises DamageError and RefusedError."""
    keyring = parse_keyring(data, repository.signers, name)
    if keyring.ids.repository != repository.info().repository:
        raise DamageError(f"'{name}' belongs to another repository")
    return keyring
