"""The ledger's chain of entries, FORMAT.md §10: read from a store, checked as a chain, and extended.

No secret is needed. A chain is only ever extended: the entries that a store shows are compared with the known ones, so
that an entry that was altered, left out, moved, or cut off and rewritten is found.

`backupd manual trust`, row *the ledger*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from backupd.errors import DamageError, ObjectMissingError, RefusedError
from backupd.model.documents import LedgerHead, RepositoryInfo, decode_body
from backupd.model.ids import ObjectHash, ObjectName, RegionName, RepositoryId
from backupd.model.ledger import Event, KeeperRetired, LedgerEntry, Misdated, decode_entry, encode_entry
from backupd.model.misdated_entries import Misdating, redate
from backupd.repository.layout import LEDGER, REPOSITORY, entry_name
from backupd.seal.documents import LIMITS, Signer, read_document, signatures_of
from backupd.store.base import Store, StoreView, put_document

_NAME = re.compile(r"ledger/([0-9]{10})\.json")
_MOST_STRAYS = 1_000


@dataclass(frozen=True, slots=True)
class Link:
    """One entry of the chain with its document."""

    entry: LedgerEntry
    sha256: ObjectHash
    """SHA-256 of the whole document, in hex."""
    data: bytes
    """The document's bytes, with body and signature."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The entries from the first on, each checked against the one before it."""

    region: RegionName
    repository: RepositoryId
    links: tuple[Link, ...] = ()
    misdated: Mapping[int, Misdating] = field(default_factory=dict)
    """Entries, by number, of which a later one says that they are dated ahead."""
    retired: frozenset[str] = frozenset()
    """Public keys that an entry retired: no later one is believed because of them."""

    @property
    def head(self) -> LedgerHead:
        return self.head_at(len(self.links))

    def head_at(self, seq: int) -> LedgerHead:
        """Return the head as it was when the chain had `seq` entries. Raises IndexError when it never had so many."""
        return LedgerHead(seq=seq, head=self.links[seq - 1].sha256 if seq else None)

    def entries(self, after: int = 0) -> Iterator[LedgerEntry]:
        """Yield the entries after the first `after`, with their corrected dates."""
        return (self._read(link.entry) for link in self.links[after:])

    def _read(self, entry: LedgerEntry) -> LedgerEntry:
        misdating = self.misdated.get(entry.seq)
        return redate(entry, misdating) if misdating is not None else entry

    def last_dated(self, seq: int | None = None, but: Collection[int] = ()) -> LedgerEntry | None:
        """Return the newest rightly dated entry of the first `seq`, or of all; later entries must not be older.

        The numbers in `but` count as misdated, too.
        """
        before = reversed(self.links[:seq])
        dated = (link.entry for link in before if link.entry.seq not in self.misdated and link.entry.seq not in but)
        return next(dated, None)

    def dated_after(self, at: str) -> list[int]:
        """List the entries dated after a stamp, by number, except those that an entry calls misdated."""
        later = (link.entry.seq for link in self.links if link.entry.at > at)
        return [seq for seq in later if seq not in self.misdated]

    def require(self, witnessed: LedgerHead, by: str) -> None:
        """Raise DamageError unless this chain has or extends the head that `by` saw."""
        if witnessed.seq > len(self.links):
            new = "" if self.links else "To a new store a keeper's next run brings them (`backupd purge`). Otherwise: "
            raise DamageError(
                f"the ledger ends at entry {len(self.links)}, but '{by}' saw {witnessed.seq}",
                hint=f"{new}Entries were cut off. Get them from another store, or from the keeper's state folder.",
            )
        if self.head_at(witnessed.seq) != witnessed:
            raise DamageError(
                f"entry {witnessed.seq} of the ledger is not the one that '{by}' saw",
                hint="The ledger was cut off and rewritten, or another one lies there.",
            )

    def copy_to(self, store: Store, length: int) -> None:
        """Publish the entries after the first `length`, which the store already has."""
        for seq, link in enumerate(self.links[length:], start=length + 1):
            put_entry(store, seq, link.data)

    def extended(self, document: bytes, trusted: Collection[str]) -> Chain:
        """Return this chain extended by the entry that follows it.

        Raises DamageError when the document is not that entry, and RefusedError for a format this program cannot read.
        """
        seq = len(self.links) + 1
        where = entry_name(seq)
        entry = decode_entry(read_document(document, "ledger", trusted, where), where)
        if self.retired and _signed_by(document, where).isdisjoint(frozenset(trusted) - self.retired):
            raise DamageError(
                f"'{where}' is signed by a keeper that was retired before it",
                hint="Somebody who has that key may write to the store, too: see `backupd manual incidents`.",
            )
        if (entry.seq, entry.region, entry.repository) != (seq, self.region, self.repository):
            raise DamageError(f"'{where}' is not in its own place")
        if entry.previous != self.head.head:
            raise DamageError(f"'{where}' does not follow the entry before it")
        misdated = self._misdated(entry, where)
        last = self.last_dated(but=misdated)
        if last is not None and entry.at < last.at:
            raise DamageError(f"'{where}' is older than the entry before it")
        link = Link(entry, ObjectHash(_sha256(document)), document)
        retired = self.retired.union(event.key for event in entry.events if isinstance(event, KeeperRetired))
        return replace(self, links=(*self.links, link), misdated={**self.misdated, **misdated}, retired=retired)

    def _misdated(self, entry: LedgerEntry, where: str) -> dict[int, Misdating]:
        """Return the corrections that the next entry makes to entries before it, by number."""
        named = {seq for event in entry.events if isinstance(event, Misdated) for seq in event.entries}
        if any(seq >= entry.seq or self.links[seq - 1].entry.at <= entry.at for seq in named):
            raise DamageError(f"'{where}' says of an entry that it was dated ahead, and it was not")
        if not named:
            return {}
        # Those named before, too: what then stood for a right date may be named now.
        wrong = named | self.misdated.keys()
        return {seq: self._misdating(seq, wrong, entry) for seq in wrong}

    def _misdating(self, seq: int, wrong: Collection[int], entry: LedgerEntry) -> Misdating:
        """Return the instants between which an entry was written, once the next one names others.

        The earliest is the stamp of the last rightly dated entry before it; without one, it is the latest.
        """
        known, before = self.misdated.get(seq), self.last_dated(seq - 1, wrong)
        latest = entry.at if known is None else min(known.latest, entry.at)
        return Misdating(before.at if before is not None else latest, latest)


def list_entries(store: StoreView) -> list[int]:
    """Return the numbers of the entries on a store, and of what stands in the places of others, in order."""
    names = (_NAME.fullmatch(info.name) for info in store.list(LEDGER))
    return sorted(int(match[1]) for match in names if match and int(match[1]))


def pop_strays(
    store: StoreView, numbers: list[int], trusted: Collection[str], retired: Collection[str] = ()
) -> list[ObjectName]:
    """Take the last numbers off under which lies what no keeper signed; return the names of these objects.

    Anybody who may add objects can put them there, to take the next entry's place. A reader loses nothing by leaving
    them out that it would not lose by an entry that was removed: the heads in records and copies show both. What a
    key signed that is trusted, or that `repository.json` names, is no stray, unless it is `retired`. Raises DamageError
    when there are more than anybody should read, and RefusedError when nothing is left, and somebody signed the first
    entry: who forgot to trust a keeper would go on as if nobody had been purged.
    """
    strays: list[ObjectName] = []
    keys = {*trusted, *_named_keys(store)}.difference(retired) if numbers else set()
    while numbers and _is_stray(store, entry_name(numbers[-1]), keys):
        strays.append(entry_name(numbers.pop()))
        if len(strays) > _MOST_STRAYS:
            raise DamageError(
                f"more than {_MOST_STRAYS} objects stand in the ledger's folder that no keeper signed, up to "
                f"'{strays[0]}'",
                hint="Remove them on the store, and shut out who put them there (`backupd manual incidents`).",
            )
    if strays and not numbers and (signers := _signers(store, strays[-1])):
        raise RefusedError(
            f"no entry of the ledger can be believed: '{strays[-1]}' is signed by {signers[0]}, which is not trusted",
            hint="If a keeper of yours has that key, add it to trust.keepers, here and in `backupd store accept`; past "
            "ones, too. If nobody of yours has it, remove what is in the ledger's folder (`backupd manual incidents`).",
        )
    return strays


def why_stray(store: StoreView, name: ObjectName, retired: Collection[str]) -> str:
    """Say of what stands in an entry's place, and is a stray, why it is no entry."""
    late = sorted({*retired}.intersection(_signers(store, name)))
    return f"it is signed with {late[0]}, which an entry retired" if late else "no keeper signed it"


def _signers(store: StoreView, name: ObjectName) -> list[str]:
    """Return the keys that signed what stands in an entry's place, trusted or not."""
    try:
        return sorted(_signed_by(store.get(name, 0, LIMITS["ledger"] + 1), name))
    except (DamageError, ObjectMissingError):
        return []


def _signed_by(document: bytes, name: ObjectName) -> frozenset[str]:
    """Return the keys with which a document is rightly signed. Raises DamageError."""
    return frozenset(signed.key for signed in signatures_of(document, "ledger", name) if signed.good)


def _is_stray(store: StoreView, name: ObjectName, keys: Collection[str]) -> bool:
    try:
        return _signed_by(store.get(name, 0, LIMITS["ledger"] + 1), name).isdisjoint(keys)
    except ObjectMissingError:
        return False
    except DamageError:
        return True


def _named_keys(store: StoreView) -> Collection[str]:
    """Return the keys that `repository.json` names, no matter who signed it: nothing is believed because of them."""
    try:
        data = store.get(REPOSITORY, 0, LIMITS["repository"])
        info = decode_body(data.partition(b"\n")[0], RepositoryInfo, REPOSITORY)
    except (DamageError, ObjectMissingError):
        return ()
    return info.keepers or info.signers


def _without_gap(numbers: Sequence[int]) -> int:
    missing = next((seq for seq, there in enumerate(numbers, start=1) if there != seq), None)
    if missing is not None:
        raise DamageError(
            f"'{entry_name(missing)}' is missing, and later entries of the ledger are there",
            hint="Copy it there from another store, or from a keeper's state folder.",
        )
    return len(numbers)


def read_chain(
    store: Store,
    known: Chain,
    trusted: Collection[str],
    *,
    compare_all: bool = False,
    strays: list[ObjectName] | None = None,
) -> tuple[Chain, int]:
    """Return `known` extended by the store's further entries, and how many entries the store has.

    Of the common entries the last is compared, or every one with `compare_all`. Objects behind the last entry that no
    keeper signed are put into `strays`; without that, they are errors. Raises DamageError when the store's ledger is
    not the beginning or the continuation of `known`, ObjectMissingError when an entry vanishes while it is read.
    """
    numbers = list_entries(store)
    try:
        return _read_on(store, known, trusted, numbers, compare_all=compare_all)
    except (DamageError, RefusedError):
        # Looked for only now: a look at a ledger that is right costs nothing more.
        retired = _as_far_as_it_goes(store, known, trusted, len(numbers)).retired
        found = pop_strays(store, numbers, trusted, retired) if strays is not None else []
        if strays is None or not found:
            raise
    strays += found
    return _read_on(store, known, trusted, numbers, compare_all=compare_all)


def _as_far_as_it_goes(store: Store, known: Chain, trusted: Collection[str], number: int) -> Chain:
    """Return the chain up to the first entry that cannot be believed."""
    chain = known
    with suppress(DamageError, ObjectMissingError, RefusedError):
        for seq in range(len(known.links) + 1, number + 1):
            chain = chain.extended(fetch_entry(store, seq), trusted)
    return chain


def _read_on(
    store: Store, known: Chain, trusted: Collection[str], numbers: Sequence[int], *, compare_all: bool
) -> tuple[Chain, int]:
    number = _without_gap(numbers)
    common = min(number, len(known.links))
    for seq in range(1 if compare_all else max(common, 1), common + 1):
        if fetch_entry(store, seq) != known.links[seq - 1].data:
            raise DamageError(
                f"'{entry_name(seq)}' is not the entry that is known from elsewhere",
                hint="The ledger was altered, or written by two keepers at once; compare the stores' copies.",
            )
    chain = known
    for seq in range(common + 1, number + 1):
        chain = chain.extended(fetch_entry(store, seq), trusted)
    return chain, number


def next_document(chain: Chain, at: str, events: list[Event], signer: Signer) -> bytes:
    """Make the signed entry that follows a chain; `at` is a stamp."""
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
    """Publish an entry. Raises ObjectExistsError when another one has its place."""
    put_document(store, entry_name(seq), document)


def fetch_entry(store: Store, seq: int) -> bytes:
    """Return an entry's document. Raises ObjectMissingError where there is none, or an empty file."""
    data = store.get(entry_name(seq), 0, LIMITS["ledger"] + 1)
    if not data:
        raise ObjectMissingError(f"'{entry_name(seq)}' is empty")
    return data


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
