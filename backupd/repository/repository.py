"""A region's repository on one store: documents, checked and written; callers keep the order of FORMAT.md §2.

`backupd manual trust`, row *`repository.json`*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Final

from backupd.errors import UNSOUND, BackupdError, DamageError, ObjectMissingError, RefusedError
from backupd.model.documents import REDUCED, Record, RepositoryInfo, decode_body, encode_body
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, RegionName, SnapshotName
from backupd.model.known_keys import is_known_signer
from backupd.model.ledger import Reduced
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.repository.keyring_shelf import KeyringShelf
from backupd.repository.keys import SecretKeys
from backupd.repository.ledger import Chain
from backupd.repository.packs import OpenPack, SnapshotSections, open_pack, read_sections
from backupd.seal.documents import LIMITS, Signer, check_size, read_document
from backupd.seal.keyring import Keyring, KeyringIds, parse_keyring
from backupd.store.base import ObjectInfo, Store, put_document

_READERS: Final = 8
"""Keyrings that are asked for at once."""


class Repository:
    """The typed view of one region's folder.

    With `trusted` signers (64 hex each) only documents that they signed are believed. With None, the signers that
    `repository.json` itself names are believed, except keys that anybody can sign with; the user should see them
    (`signers`). `keepers` works in the same way for the ledger. With a `region`, another one's repository is refused:
    both may be signed by the same node, and somebody may have exchanged their folders. No error message names a tenant.
    """

    def __init__(
        self,
        store: Store,
        trusted: Collection[str] | None,
        keepers: Collection[str] | None = None,
        region: RegionName | None = None,
    ) -> None:
        self.store = store
        self._region = region
        self._trusted = None if trusted is None else frozenset(trusted)
        self._keepers = None if keepers is None else frozenset(keepers)
        self._generations: dict[SnapshotName, list[GenerationId]] = {}
        self._right: dict[SnapshotName, GenerationId] = {}
        """Where a record was read that could be believed: copies of it may lie in other generations."""
        self._known_info: RepositoryInfo | None = None
        self._retired: Collection[str] = ()
        self._reduced: Collection[SnapshotName] = ()

    @property
    def _info(self) -> RepositoryInfo:
        # Not `cached_property`: in Python 3.11 all instances share its lock, and one store would hold up the others.
        if self._known_info is None:
            self._known_info = self._read_info()
        return self._known_info

    def _read_info(self) -> RepositoryInfo:
        try:
            data = self._fetch(layout.REPOSITORY, "repository")
        except ObjectMissingError as error:
            raise ObjectMissingError(
                f"there is no repository: {error.message}",
                hint="Check the store's `path` in the configuration; for a new store, `backupd init REGION` makes one.",
            ) from error
        trusted = self._trusted
        if trusted is None:
            claimed = decode_body(data.partition(b"\n")[0], RepositoryInfo, layout.REPOSITORY)
            trusted = _own(claimed.signers)
            if claimed.signers and not trusted:
                raise RefusedError(
                    f"'{layout.REPOSITORY}' names only signers that anybody can sign with",
                    hint="Name under [trust] whom to believe; the secret halves of these keys are public.",
                )
        body = read_document(data, "repository", trusted, layout.REPOSITORY)
        info = decode_body(body, RepositoryInfo, layout.REPOSITORY)
        if self._region not in (None, info.region):
            raise RefusedError(
                f'the repository of region "{info.region}" stands where that of "{self._region}" belongs',
                hint="Folders of regions must not be moved or renamed.",
            )
        return info

    def exists(self) -> bool:
        """Check whether there is a `repository.json`, readable or not."""
        return self.store.stat(layout.REPOSITORY) is not None

    def info(self) -> RepositoryInfo:
        """Return `repository.json`, verified; it is read only once.

        Raises ObjectMissingError, DamageError, RefusedError.
        """
        return self._info

    @property
    def signers(self) -> frozenset[str]:
        """Return the public keys whose documents are believed here, 64 hex each."""
        return _own(self._info.signers) if self._trusted is None else self._trusted

    @property
    def keepers(self) -> frozenset[str]:
        """Return the public keys whose ledger entries are believed here.

        These are the keepers given, else those that `repository.json` names, else the signers.
        """
        if self._keepers is not None:
            return self._keepers
        named = _own(self._info.keepers) if self._trusted is None else frozenset[str]()
        return named or self.signers

    def obey(self, chain: Chain) -> None:
        """Believe retired keepers no record of what a hold keeps, but those that the ledger names."""
        self._retired = chain.retired
        events = (event for entry in chain.entries() for event in entry.events) if chain.retired else ()
        self._reduced = {event.into for event in events if isinstance(event, Reduced)}

    @property
    def unnamed_keepers(self) -> tuple[str, ...]:
        """Return the keepers given whose ledger entries nobody believes who has only the store, sorted.

        `repository.json` names neither them nor, where it names no keeper, a signer that they are.
        """
        return unnamed_keepers(self._info, self._keepers or ())

    def records(self) -> list[tuple[GenerationId, SnapshotName]]:
        """List the places of all records on the store now, oldest first.

        A name may stand in two generations, once wrongly.
        """
        places = (layout.place_of(found.name) for found in self.store.list(layout.RECORDS))
        found = sorted((place.generation, place.snapshot) for place in places if place.generation and place.snapshot)
        self._generations = {snapshot: [] for _, snapshot in found}
        for generation, snapshot in found:
            self._generations[snapshot].append(generation)
        return found

    def snapshots(self) -> list[SnapshotName]:
        """List the names of all records from the store, oldest first."""
        return sorted({snapshot for _, snapshot in self.records()})

    def generation_of(self, snapshot: SnapshotName) -> GenerationId:
        """Return the generation of a record. Raises ObjectMissingError when there is no such record."""
        if snapshot not in self._generations:
            self.records()
        if snapshot not in self._generations:
            raise ObjectMissingError(f"there is no snapshot '{snapshot}'", hint="`backupd snapshots` lists them.")
        found = self._generations[snapshot]
        return self._right[snapshot] if self._right.get(snapshot) in found else found[0]

    def record(self, snapshot: SnapshotName, generation: GenerationId | None = None) -> Record:
        """Read a record and check its hash, signature and place.

        `generation` says where it stands, if not in the first generation that has it. Raises ObjectMissingError,
        DamageError, RefusedError.
        """
        first = generation or self.generation_of(snapshot)
        try:
            return self._record(snapshot, first)
        except UNSOUND:
            others = [] if generation is not None else self._generations.get(snapshot, [])
            for other in others:
                with suppress(*UNSOUND):
                    return self._record(snapshot, other)
            raise

    def _record(self, snapshot: SnapshotName, generation: GenerationId) -> Record:
        data = self._fetch(layout.record_name(generation, snapshot), "snapshot")
        record = self.checked_record(data, snapshot, generation)
        self._right[snapshot] = generation
        return record

    def checked_record(self, data: bytes, snapshot: SnapshotName, generation: GenerationId) -> Record:
        """Decode a record from its bytes, and check that it belongs in this place.

        Raises DamageError, RefusedError.
        """
        where = layout.record_name(generation, snapshot)
        if hashlib.sha256(data).hexdigest() != snapshot.partition("-")[2]:
            raise DamageError(f"'{where}' does not have the hash its name says")
        record = decode_body(read_document(data, "snapshot", self.signers | self.keepers, where), Record, where)
        # A keeper writes records of what a hold keeps, and no others; nobody else writes one of them. Otherwise a node
        # could say that less is to be kept.
        keepers = self.keepers if snapshot in self._reduced else self.keepers.difference(self._retired)
        read_document(data, "snapshot", keepers if REDUCED in record.extra else self.signers, where)
        if (record.repository, record.region) != (self._info.repository, self._info.region):
            raise DamageError(f"'{where}' belongs to another repository")
        if record.generation != generation or snapshot != record_title(record, data):
            raise DamageError(f"'{where}' is not in its own place")
        return record

    def keyrings(
        self, generation: GenerationId, unsound: dict[ObjectName, BackupdError] | None = None
    ) -> list[Keyring]:
        """Read every keyring of a generation, oldest first, checked as far as is possible without a key.

        One that cannot be believed is put into `unsound`; without that, it raises DamageError or RefusedError.
        """
        found, shelf = list[Keyring](), KeyringShelf()
        names = sorted(info.name for info in self.store.list(layout.keyrings_folder(generation)))
        keyrings = [name for name in names if layout.place_of(name).kind is layout.ObjectKind.KEYRING]
        for name, read in in_parallel(self.keyring, keyrings, _READERS):
            try:
                found.append(shelf.take(read.result()))
            except (DamageError, RefusedError) as error:
                if unsound is None:
                    raise
                unsound[name] = error
        return found

    def keyring(self, name: ObjectName) -> Keyring:
        """Read one keyring by its object's name.

        Raises ObjectMissingError, DamageError, RefusedError.
        """
        return self.checked_keyring(self._fetch(name, "keyring"), name)

    def checked_keyring(self, data: bytes, name: ObjectName) -> Keyring:
        """Decode a keyring from its bytes, and check that it belongs in this place.

        Raises DamageError, RefusedError.
        """
        keyring = parse_keyring(data, self.signers, name)
        place, ids = layout.place_of(name), keyring.ids
        if (ids.repository, ids.region) != (self._info.repository, self._info.region):
            raise DamageError(f"'{name}' belongs to another repository")
        if (ids.generation, ids.run) != (place.generation, place.run):
            raise DamageError(f"'{name}' is not in its own place")
        return keyring

    def open_keys(self, identity_secret: bytes, generations: Iterable[GenerationId]) -> SecretKeys:
        """Open the segment keys of these generations.

        Raises KeyRefusedError when the identity opens no keyring of one of them, DamageError.
        """
        unsound: dict[ObjectName, BackupdError] = {}
        keyrings = {generation: self.keyrings(generation, unsound) for generation in dict.fromkeys(generations)}
        by_run = {run: error for name, error in unsound.items() if (run := layout.place_of(name).run)}
        return SecretKeys(keyrings, identity_secret, by_run)

    def list_packs(self, generation: GenerationId) -> dict[ObjectHash, ObjectInfo]:
        """Return every pack of a generation, by its hash."""
        listed = self.store.list(layout.packs_folder(generation))
        places = ((layout.place_of(found.name).sha256, found) for found in listed)
        return {sha256: found for sha256, found in places if sha256}

    def pack(self, generation: GenerationId, sha256: ObjectHash) -> OpenPack:
        """Read a pack's header and map. Raises ObjectMissingError, DamageError, RefusedError."""
        return open_pack(self.store, self._info.repository, generation, sha256)

    def sections(self, record: Record) -> SnapshotSections:
        """Return the sections of a snapshot, there or not.

        Raises ObjectMissingError when a pack is missing, DamageError, RefusedError.
        """
        return read_sections(self.store, record)

    def put_document(self, name: ObjectName, data: bytes) -> None:
        """Publish a small object; raises the errors of the store's `put_new`."""
        put_document(self.store, name, data)

    def put_keyring(self, ids: KeyringIds, data: bytes) -> None:
        """Publish a rendered keyring. Packs with sections of its keys MUST NOT be published yet (FORMAT.md §2)."""
        self.put_document(layout.keyring_name(ids.generation, ids.run), data)

    def put_record(self, record: Record, signed: bytes) -> None:
        """Publish a signed record, by which the snapshot exists. All that it names MUST be published already.

        Raises DamageError for one that is so large that nobody would read it.
        """
        check_size(len(signed), "snapshot", record_title(record, signed))
        self.put_document(layout.record_name(record.generation, record_title(record, signed)), signed)

    def put_info(self, info: RepositoryInfo, signer: Signer) -> None:
        """Sign and publish `repository.json`, by which the repository exists."""
        self.put_document(layout.REPOSITORY, signer.sign(encode_body(info), "repository"))

    def read(self, name: ObjectName, kind: str) -> bytes:
        """Return a document as it stands; only its size is checked against the limit of its kind.

        Raises ObjectMissingError, DamageError.
        """
        return self._fetch(name, kind)

    def _fetch(self, name: ObjectName, kind: str) -> bytes:
        data = self.store.get(name, 0, LIMITS[kind] + 1)
        if len(data) > LIMITS[kind]:
            raise DamageError(f"'{name}' is larger than the {LIMITS[kind]} bytes allowed for it")
        return data


def unnamed_keepers(info: RepositoryInfo, keepers: Iterable[str]) -> tuple[str, ...]:
    """Return those keepers whose ledger entries are not believed by who trusts what the document names, sorted."""
    return tuple(sorted(frozenset(keepers) - (_own(info.keepers) or _own(info.signers))))


def unnamed_signers(info: RepositoryInfo, signers: Iterable[str]) -> tuple[str, ...]:
    """Return those signers whose snapshots are left out by who trusts what the document names, sorted."""
    return tuple(sorted(frozenset(signers) - _own(info.signers)))


def _own(keys: Iterable[str]) -> frozenset[str]:
    """Return the keys that only their owner can sign with, as far as is known."""
    return frozenset(key for key in keys if not is_known_signer(key))


def signed_record(record: Record, signer: Signer) -> tuple[SnapshotName, bytes]:
    """Sign a record; return its name and its document."""
    data = signer.sign(encode_body(record), "snapshot")
    return record_title(record, data), data


def record_title(record: Record, document: bytes) -> SnapshotName:
    """Return the name of a record's document: the time of its export, and its hash."""
    time = record.exported.partition(".")[0].replace("-", "").replace(":", "")
    return SnapshotName(f"{time}Z-{hashlib.sha256(document).hexdigest()}")
