"""Entries that this machine is appending, kept beside its own copy of the ledger until a store has taken them.

The own copy is a witness, so it must hold only what a store once had. An entry that no store took may give way to
another keeper's; one that a store took and does not show any more is an alarm. This folder distinguishes the two.
"""

from __future__ import annotations

import re
from typing import Final

from backupd.model.ids import ObjectName
from backupd.seal.documents import LIMITS
from backupd.store.base import Store, put_document

_FOLDER: Final = ObjectName("pending")
_NAME: Final = re.compile(r"pending/([0-9]{10})\.json")


class PendingEntries:
    """The folder of pending entries; usually it is empty or holds one."""

    def __init__(self, copy: Store) -> None:
        self._copy = copy

    def put(self, seq: int, document: bytes) -> None:
        """Note durably that this entry is about to be appended.

        Raises ObjectExistsError when another one of this machine is pending at that number.
        """
        put_document(self._copy, _name(seq), document)

    def remove(self, seq: int) -> None:
        self._copy.remove(_name(seq))

    def numbers(self) -> list[int]:
        """Return the numbers of the pending entries in order."""
        found = (_NAME.fullmatch(info.name) for info in self._copy.list(_FOLDER))
        return sorted(int(match[1]) for match in found if match)

    def document(self, seq: int) -> bytes:
        """Return the entry as it was signed.

        Raises ObjectMissingError when another process has settled it meanwhile.
        """
        return self._copy.get(_name(seq), 0, LIMITS["ledger"] + 1)


def _name(seq: int) -> ObjectName:
    return ObjectName(f"pending/{seq:010d}.json")
