"""This machine's own copy of a region's ledger, read so that a disk which lost a part of it stops nothing.

The copy is a witness: an entry in it stood on a store once, so a store that shows another one in its place is refused.
A file that is no signed entry witnesses nothing. It is left out when the copy is read, and replaced once a store has
shown the entry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from backupd.errors import UNSOUND, DamageError
from backupd.model.ledger import decode_entry
from backupd.repository.layout import entry_name
from backupd.repository.ledger import Chain, fetch_entry, list_entries, put_entry
from backupd.seal.documents import read_document
from backupd.store.base import Store


@dataclass(frozen=True, slots=True)
class OwnLedger:
    """The entries that the own copy still holds, in order and behind a gap."""

    chain: Chain
    """The entries up to the first one that is missing or cannot be read."""
    later: Mapping[int, bytes] = field(default_factory=dict)
    """Signed entries behind that, by their numbers."""
    unreadable: tuple[int, ...] = ()
    """The numbers of files that are no signed entries."""

    def contradiction(self, chain: Chain) -> tuple[int, str] | None:
        """Return the first entry behind the gap that a ledger contradicts, with the sentence that says how."""
        for seq, document in self.later.items():
            if seq > len(chain.links):
                return seq, "is missing, and this machine's own copy of the ledger has it"
            if chain.links[seq - 1].data != document:
                return seq, "is not the entry that this machine's own copy of the ledger has"
        return None

    def mend(self, copy: Store, chain: Chain) -> None:
        """Put into the copy what it lacks of a ledger that begins with the copy's entries.

        Raises DamageError when the ledger contradicts the copy.
        """
        if wrong := self.contradiction(chain):
            raise DamageError(
                f"'{entry_name(wrong[0])}' {wrong[1]}",
                hint="The ledger was cut off, altered, or written by two keepers at once; compare the stores' copies.",
            )
        for seq in self.unreadable:
            copy.remove(entry_name(seq))
        for seq in range(len(self.chain.links) + 1, len(chain.links) + 1):
            if seq not in self.later:
                put_entry(copy, seq, chain.links[seq - 1].data)


def read_own(copy: Store, known: Chain, trusted: Collection[str]) -> OwnLedger:
    """Read the own copy: `known`, extended by its further entries as far as they follow one another.

    Raises DamageError when the last entry of `known` is another one in the copy, and the errors of the copy's disk.
    """
    chain, later, unreadable = known, dict[int, bytes](), list[int]()
    for seq in list_entries(copy):
        if seq < len(known.links):
            continue
        data = _signed(copy, seq, trusted)
        if data is None:
            unreadable.append(seq)
        elif seq <= len(known.links):
            if data != known.links[seq - 1].data:
                raise DamageError(
                    f"'{entry_name(seq)}' of this machine's own copy of the ledger is not the entry that is known",
                    hint="Another process of this machine wrote it; compare the stores' copies of the ledger.",
                )
        elif seq == len(chain.links) + 1 and not later:
            chain = _extended(chain, data, trusted) or chain
            if seq > len(chain.links):
                later[seq] = data
        else:
            later[seq] = data
    return OwnLedger(chain, later, tuple(unreadable))


def _signed(copy: Store, seq: int, trusted: Collection[str]) -> bytes | None:
    """Return a file of the copy; None when it is no entry that a keeper signed for this number."""
    where = entry_name(seq)
    try:
        data = fetch_entry(copy, seq)
        entry = decode_entry(read_document(data, "ledger", trusted, where), where)
    except UNSOUND:
        return None
    return data if entry.seq == seq else None


def _extended(chain: Chain, data: bytes, trusted: Collection[str]) -> Chain | None:
    try:
        return chain.extended(data, trusted)
    except UNSOUND:
        return None
