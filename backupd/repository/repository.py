"""A region's repository on one store: documents, checked and written; callers keep FORMAT.md §2's order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from functools import cached_property

from backupd.errors import DamageError, ObjectMissingError, RefusedError
from backupd.model.documents import REDUCED, Record, RepositoryInfo, decode_body, encode_body
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.model.known_keys import is_known_signer
from backupd.repository import layout
from backupd.repository.keys import SecretKeys
from backupd.seal.container_format import ContainerContext
from backupd.seal.documents import LIMITS, Signer, read_document
from backupd.seal.keyring import Keyring, KeyringIds, parse_keyring
from backupd.store.base import ObjectInfo, Store, put_document


class Repository:
    """The typed view of one region's folder.

    With `trusted` signers (64 hex each) only documents they signed are believed; with None, those `repository.json`
    itself names, of which the user should be told (`signers`), but no key that anybody can sign with. `keepers`
    likewise, for the ledger. Reading names no tenant in any message.
    """

    def __init__(self, store: Store, trusted: Collection[str] | None, keepers: Collection[str] | None = None) -> None:
        self.store = store
        self._trusted = None if trusted is None else frozenset(trusted)
        self._keepers = None if keepers is None else frozenset(keepers)
        self._generations: dict[SnapshotName, GenerationId] = {}

    @cached_property
    def _info(self) -> RepositoryInfo:
        data = self._fetch(layout.REPOSITORY, "repository")
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
        return decode_body(body, RepositoryInfo, layout.REPOSITORY)

    def exists(self) -> bool:
        """Whether there is a `repository.json`, readable or not."""
        return self.store.stat(layout.REPOSITORY) is not None

    def info(self) -> RepositoryInfo:
        """`repository.json`, verified; read once.

        Raises ObjectMissingError, DamageError, RefusedError.
        """
        return self._info

    @property
    def signers(self) -> frozenset[str]:
        """Whose documents are believed here, 64 hex each."""
        return _own(self._info.signers) if self._trusted is None else self._trusted

    @property
    def keepers(self) -> frozenset[str]:
        """Whose ledger entries are believed here: keepers given, else those `repository.json` names, else writers."""
        if self._keepers is not None:
            return self._keepers
        named = _own(self._info.keepers) if self._trusted is None else frozenset[str]()
        return named or self.signers

    def records(self) -> list[tuple[GenerationId, SnapshotName]]:
        """Where every record lies, listed anew, oldest first. A name may stand in two generations, once wrongly."""
        places = (layout.place_of(found.name) for found in self.store.list(layout.RECORDS))
        found = sorted((place.generation, place.snapshot) for place in places if place.generation and place.snapshot)
        self._generations = {snapshot: generation for generation, snapshot in reversed(found)}
        return found

    def snapshots(self) -> list[SnapshotName]:
        """The names of all records, oldest first, listed anew."""
        return sorted({snapshot for _, snapshot in self.records()})

    def generation_of(self, snapshot: SnapshotName) -> GenerationId:
        """Raises ObjectMissingError when there is no such record."""
        if snapshot not in self._generations:
            self.records()
        if snapshot not in self._generations:
            raise ObjectMissingError(f"there is no snapshot '{snapshot}'", hint="`backupd snapshots` lists them.")
        return self._generations[snapshot]

    def record(self, snapshot: SnapshotName, generation: GenerationId | None = None) -> Record:
        """A record whose hash, signature and place were checked; `generation` says which place, if not the first.

        Raises ObjectMissingError, DamageError, RefusedError.
        """
        generation = generation or self.generation_of(snapshot)
        return self.checked_record(
            self._fetch(layout.record_name(generation, snapshot), "snapshot"), snapshot, generation
        )

    def checked_record(self, data: bytes, snapshot: SnapshotName, generation: GenerationId) -> Record:
        """The record in these bytes, which are to stand in this place.

        Raises DamageError, RefusedError.
        """
        where = layout.record_name(generation, snapshot)
        if hashlib.sha256(data).hexdigest() != snapshot.partition("-")[2]:
            raise DamageError(f"'{where}' does not have the hash its name says")
        record = decode_body(read_document(data, "snapshot", self.signers | self.keepers, where), Record, where)
        if REDUCED not in record.extra:
            # A keeper writes records of what a hold keeps, and no others.
            read_document(data, "snapshot", self.signers, where)
        if (record.repository, record.region) != (self._info.repository, self._info.region):
            raise DamageError(f"'{where}' belongs to another repository")
        if record.generation != generation or snapshot != record_title(record, data):
            raise DamageError(f"'{where}' is not in its own place")
        return record

    def keyrings(self, generation: GenerationId) -> list[Keyring]:
        """Every keyring of a generation, oldest first, checked as far as can be without a key.

        Raises DamageError, RefusedError.
        """
        names = [found.name for found in self.store.list(layout.keyrings_folder(generation))]
        return [self.keyring(name) for name in sorted(names) if layout.place_of(name).kind is layout.ObjectKind.KEYRING]

    def keyring(self, name: ObjectName) -> Keyring:
        """One keyring by its object's name.

        Raises ObjectMissingError, DamageError, RefusedError.
        """
        return self.checked_keyring(self._fetch(name, "keyring"), name)

    def checked_keyring(self, data: bytes, name: ObjectName) -> Keyring:
        """The keyring in these bytes, which are to stand in this place.

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
        """The segment keys of these generations.

        Raises KeyRefusedError when the identity opens no keyring of one of them, DamageError.
        """
        return SecretKeys({g: self.keyrings(g) for g in dict.fromkeys(generations)}, identity_secret)

    def find(self, context: ContainerContext, sha256: ObjectHash) -> ObjectInfo:
        """The container of this hash in the segment's folder: a pack, else a part.

        Raises DamageError naming object and segment when there is neither.
        """
        for name in (layout.pack_name(context, sha256), layout.part_name(context, sha256)):
            found = self.store.stat(name)
            if found is not None:
                return found
        raise DamageError(f"container '{sha256}' of segment {context.segment} is missing")

    def contents(self, generation: GenerationId, segment: Pseudonym) -> dict[ObjectHash, ObjectInfo]:
        """Every pack and part in one segment's folder, by hash."""
        listed = self.store.list(layout.segment_folder(generation, segment))
        places = ((layout.place_of(found.name).sha256, found) for found in listed)
        return {sha256: found for sha256, found in places if sha256}

    def put_document(self, name: ObjectName, data: bytes) -> None:
        """Publish a small object; raises what the store's `put_new` does."""
        put_document(self.store, name, data)

    def put_keyring(self, ids: KeyringIds, data: bytes) -> None:
        """Publish a rendered keyring. Its packs MUST be published already, its parts MUST NOT (FORMAT.md §2)."""
        self.put_document(layout.keyring_name(ids.generation, ids.run), data)

    def put_record(self, record: Record, signed: bytes) -> None:
        """Publish a signed record: from then on the snapshot exists. What it names MUST be published already."""
        self.put_document(layout.record_name(record.generation, record_title(record, signed)), signed)

    def put_info(self, info: RepositoryInfo, signer: Signer) -> None:
        """Sign and publish `repository.json`: from then on the repository exists."""
        self.put_document(layout.REPOSITORY, signer.sign(encode_body(info), "repository"))

    def read(self, name: ObjectName, kind: str) -> bytes:
        """A document as it stands, of a size that one of its kind may have; unchecked otherwise.

        Raises ObjectMissingError, DamageError.
        """
        return self._fetch(name, kind)

    def _fetch(self, name: ObjectName, kind: str) -> bytes:
        data = self.store.get(name, 0, LIMITS[kind] + 1)
        if len(data) > LIMITS[kind]:
            raise DamageError(f"'{name}' is larger than the {LIMITS[kind]} bytes allowed for it")
        return data


def _own(keys: Iterable[str]) -> frozenset[str]:
    """Those of the keys that only their owner can sign with, as far as anybody knows."""
    return frozenset(key for key in keys if not is_known_signer(key))


def signed_record(record: Record, signer: Signer) -> tuple[SnapshotName, bytes]:
    """A record as it is published, and the name it gets."""
    data = signer.sign(encode_body(record), "snapshot")
    return record_title(record, data), data


def record_title(record: Record, document: bytes) -> SnapshotName:
    """The name a record's document goes by: when it was exported, and its hash."""
    time = record.exported.partition(".")[0].replace("-", "").replace(":", "")
    return SnapshotName(f"{time}Z-{hashlib.sha256(document).hexdigest()}")
