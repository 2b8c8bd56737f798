"""The ledger's chain of entries, FORMAT.md §10: read from a store, held together, and made longer.

Needs no secret. A chain is only ever extended: what a store shows is compared with what is known already, so that an
entry that was altered, left out, put elsewhere or cut off and written anew is found.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.catalog.layout import LEDGER, entry_name
from backupd.errors import DamageError, ObjectMissingError
from backupd.model.ids import ObjectHash
from backupd.model.stored.documents import LedgerHead
from backupd.model.stored.ledger import LedgerEntry, decode_entry, encode_entry
from backupd.seal.documents import LIMITS, read_document
from backupd.store.base import put_document

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backupd.model.ids import RegionName, RepositoryId
    from backupd.model.stored.ledger import Event
    from backupd.seal.documents import Signer
    from backupd.store.base import Store

_NAME = re.compile(r"ledger/([0-9]{10})\.json")


@dataclass(frozen=True, slots=True)
class Link:
    """One entry in its place."""

    entry: LedgerEntry
    sha256: ObjectHash
    """Of the whole document."""
    data: bytes
    """The document."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Entries from the first on, each checked against the one before."""

    region: RegionName
    repository: RepositoryId
    links: tuple[Link, ...] = ()

    @property
    def head(self) -> LedgerHead:
        return self.head_at(len(self.links))

    def head_at(self, seq: int) -> LedgerHead:
        """The head as it was when the chain had `seq` entries; raises IndexError when it never had so many."""
        return LedgerHead(seq=seq, head=self.links[seq - 1].sha256 if seq else None)

    def entries(self, after: int = 0) -> Iterator[LedgerEntry]:
        """The entries behind the first `after`."""
        return (link.entry for link in self.links[after:])

    def require(self, witnessed: LedgerHead, by: str) -> None:
        """Raises DamageError unless this chain has or extends the head that `by` saw."""
        if witnessed.seq > len(self.links):
            raise DamageError(
                f"the ledger ends at entry {len(self.links)}, but '{by}' saw {witnessed.seq}",
                hint="Entries were cut off. Get the ledger from another store, or from the keeper's state folder.",
            )
        if self.head_at(witnessed.seq) != witnessed:
            raise DamageError(
                f"entry {witnessed.seq} of the ledger is not the one that '{by}' saw",
                hint="The ledger was cut off and written anew, or another one lies there.",
            )

    def copy_to(self, store: Store, length: int) -> None:
        """Publish the entries behind the first `length`, which the store has."""
        for seq, link in enumerate(self.links[length:], start=length + 1):
            put_entry(store, seq, link.data)

    def extended(self, document: bytes, trusted: Collection[str]) -> Chain:
        """This chain and the entry that follows it.

        Raises DamageError when the document is not that entry, and RefusedError for a format this program cannot read.
        """
        seq = len(self.links) + 1
        where = entry_name(seq)
        entry = decode_entry(read_document(document, "ledger", trusted, where), where)
        if (entry.seq, entry.region, entry.repository) != (seq, self.region, self.repository):
            raise DamageError(f"'{where}' is not in its own place")
        if entry.previous != self.head.head:
            raise DamageError(f"'{where}' does not follow the entry before it")
        if self.links and entry.at < self.links[-1].entry.at:
            raise DamageError(f"'{where}' is older than the entry before it")
        return Chain(self.region, self.repository, (*self.links, Link(entry, ObjectHash(_sha256(document)), document)))


def listed(store: Store) -> int:
    """How many entries lie on a store.

    Raises DamageError when one is missing in between.
    """
    names = (_NAME.fullmatch(info.name) for info in store.list(LEDGER))
    found = sorted(int(match[1]) for match in names if match)
    missing = next((seq for seq, there in enumerate(found, start=1) if there != seq), None)
    if missing is not None:
        raise DamageError(f"'{entry_name(missing)}' is missing, and later entries of the ledger are there")
    return len(found)


def read_chain(store: Store, known: Chain, trusted: Collection[str], *, anew: bool = False) -> tuple[Chain, int]:
    """`known` with what the store has beyond it, and how many entries the store has.

    The last entry both have is compared; all of them when `anew`. Raises DamageError when the store's ledger is not
    the beginning or the continuation of `known`, ObjectMissingError when an entry vanishes while it is read.
    """
    number = listed(store)
    common = min(number, len(known.links))
    for seq in range(1 if anew else max(common, 1), common + 1):
        if _fetch(store, seq) != known.links[seq - 1].data:
            raise DamageError(
                f"'{entry_name(seq)}' is not the entry that is known from elsewhere",
                hint="The ledger was altered, or written by two keepers at once; compare the stores' copies.",
            )
    chain = known
    for seq in range(common + 1, number + 1):
        chain = chain.extended(_fetch(store, seq), trusted)
    return chain, number


def next_document(chain: Chain, at: str, events: list[Event], signer: Signer) -> bytes:
    """The signed entry that follows a chain; `at` is a stamp."""
    entry = LedgerEntry(
        repository=chain.repository,
        region=chain.region,
        seq=len(chain.links) + 1,
        previous=chain.head.head,
        at=at,
        events=events,
    )
    return signer.sign(encode_entry(entry), "ledger")


def put_entry(store: Store, seq: int, document: bytes) -> None:
    """Publish an entry; raises ObjectExistsError when another one has its place."""
    put_document(store, entry_name(seq), document)


def _fetch(store: Store, seq: int) -> bytes:
    data = store.get(entry_name(seq), 0, LIMITS["ledger"] + 1)
    if not data:
        raise ObjectMissingError(f"'{entry_name(seq)}' is empty")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
