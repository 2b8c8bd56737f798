"""The segment keys that an identity opens, and the reason for every key that it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, DamageError, KeyRefusedError, RefusedError
from backupd.model.ids import ClassTag, GenerationId, RunId, SegmentTags

if TYPE_CHECKING:
    from backupd.seal.keyring import Keyring, OpenedKeyring, SegmentKey
    from backupd.seal.pack import SectionRow


class SecretKeys:
    """Segment keys by the keyring and the place that packs' headers name: no other keyring can stand in for one."""

    def __init__(
        self,
        keyrings: Mapping[GenerationId, Sequence[Keyring]],
        identity_secret: bytes,
        unsound: Mapping[RunId, BackupdError] | None = None,
    ) -> None:
        """Open the keyrings of each generation; `unsound` are those that cannot be believed, and stop what needs them.

        Raises KeyRefusedError when the identity opens none of some generation's keyrings, the first `unsound` error or
        DamageError for a generation without any.
        """
        self._unsound = dict(unsound or {})
        self._keyrings: dict[RunId, Keyring] = {}
        self._opened: dict[RunId, OpenedKeyring] = {}
        self._refused: dict[RunId, KeyRefusedError] = {}
        for generation, found in keyrings.items():
            refusals = [refusal for keyring in found if (refusal := self._add(keyring, identity_secret))]
            if refusals and len(refusals) == len(found):
                raise refusals[0]
            if not found and self._unsound:
                raise next(iter(self._unsound.values()))
            if not found:
                raise DamageError(f"generation {generation} has no keyring")

    def of(self, row: SectionRow) -> SegmentKey:
        """Return the key of a section.

        Raises RefusedError when it was shredded, KeyRefusedError when this identity may not have it, DamageError when
        the keyring is missing, or lists another segment in that place.
        """
        keyring = self._listing(row)
        if row.place not in keyring.sealed:
            raise RefusedError(
                f"the key of segment {row.segment} was shredded", hint="What it sealed is gone for good."
            )
        if row.keyring in self._refused:
            raise self._refused[row.keyring]
        return self._opened[row.keyring].key(row.place)

    def require(self, row: SectionRow) -> None:
        """Raise KeyRefusedError when this identity may not have the section's key; a missing key raises nothing."""
        if row.keyring in self._refused:
            raise self._refused[row.keyring]

    def shredded(self, row: SectionRow) -> bool:
        """Check whether the section's keyring lists its segment and no longer holds the key. Raises DamageError."""
        return row.place not in self._listing(row).sealed

    def require_unshredded(self, row: SectionRow) -> None:
        """Raise DamageError when a keyring no longer holds the key of a segment that nobody purged."""
        if self.shredded(row):
            raise DamageError(
                f"'{self._keyrings[row.keyring].where}' lacks the key of segment {row.segment}, and no ledger says it "
                "was purged",
                hint="Somebody removed keys. Fetch the keyring from another store, or from the store's own snapshots "
                "(`backupd manual incidents`).",
            )

    def tags_of(self, row: SectionRow) -> SegmentTags | None:
        """Return the tags of a section's segment, as its own keyring lists it; None where that does not.

        Other keyrings do not count: one with a stolen signing key could put a segment into a class that expired.
        """
        try:
            return self._listing(row).index[row.place][1]
        except DamageError:
            return None

    def class_of(self, row: SectionRow) -> ClassTag | None:
        """Return the tag of the data class of a section's segment, as `tags_of` finds it."""
        tags = self.tags_of(row)
        return None if tags is None else tags.data_class

    def _listing(self, row: SectionRow) -> Keyring:
        keyring = self._keyrings.get(row.keyring)
        if keyring is None and row.keyring in self._unsound:
            raise self._unsound[row.keyring]
        if keyring is None:
            raise DamageError(f"keyring '{row.keyring}' with the key of segment {row.segment} is missing")
        if row.place >= len(keyring.index) or keyring.index[row.place][0] != row.segment:
            raise DamageError(f"'{keyring.where}' does not list segment {row.segment} where a pack says")
        return keyring

    def _add(self, keyring: Keyring, identity_secret: bytes) -> KeyRefusedError | None:
        self._keyrings[keyring.ids.run] = keyring
        try:
            self._opened[keyring.ids.run] = keyring.open(identity_secret)
        except KeyRefusedError as refusal:
            self._refused[keyring.ids.run] = refusal
            return refusal
        return None
