"""The segment keys that an identity opens, and the reason for every key that it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from backupd.errors import DamageError, KeyRefusedError, RefusedError
from backupd.model.ids import ClassTag, GenerationId, Pseudonym

if TYPE_CHECKING:
    from backupd.seal.keyring import Keyring, SegmentKey


class SecretKeys:
    """Segment keys by pseudonym. Pseudonyms are random, so each stands for one segment of one generation."""

    def __init__(self, keyrings: Mapping[GenerationId, Sequence[Keyring]], identity_secret: bytes) -> None:
        """Open the keyrings of each generation.

        Raises KeyRefusedError when the identity opens none of some generation's keyrings, DamageError for a generation
        without any.
        """
        self._segments: dict[Pseudonym, SegmentKey] = {}
        self._shredded: dict[Pseudonym, str] = {}
        self._classes: dict[Pseudonym, ClassTag] = {}
        self._refused: dict[Pseudonym, KeyRefusedError] = {}
        self.chunk_keys: dict[GenerationId, bytes] = {}
        for generation, found in keyrings.items():
            refusals = [refusal for keyring in found if (refusal := self._add(keyring, identity_secret))]
            if refusals and len(refusals) == len(found):
                raise refusals[0]
            if not found:
                raise DamageError(f"generation {generation} has no keyring")

    def __getitem__(self, segment: Pseudonym) -> SegmentKey:
        """Return a segment's key.

        Raises RefusedError when it was shredded, KeyRefusedError when this identity may not have it, DamageError when
        no keyring has it.
        """
        if segment in self._segments:
            return self._segments[segment]
        if segment in self._shredded:
            raise RefusedError(f"the key of segment {segment} was shredded", hint="What it sealed is gone for good.")
        if segment in self._refused:
            raise self._refused[segment]
        raise DamageError(f"no keyring holds a key for segment {segment}")

    def __contains__(self, segment: object) -> bool:
        return segment in self._segments

    def __iter__(self) -> Iterator[Pseudonym]:
        return iter(self._segments)

    def __len__(self) -> int:
        return len(self._segments)

    def require(self, segment: Pseudonym) -> None:
        """Raise KeyRefusedError when this identity may not have the segment's key; a missing key raises nothing."""
        if segment not in self._segments and segment in self._refused:
            raise self._refused[segment]

    def shredded(self, segment: Pseudonym) -> bool:
        """Check whether a keyring lists the segment and no longer holds its key."""
        return segment in self._shredded and segment not in self._segments

    def require_unshredded(self, segment: Pseudonym) -> None:
        """Raise DamageError when a keyring no longer holds the key of a segment that nobody purged."""
        if self.shredded(segment):
            raise DamageError(
                f"'{self._shredded[segment]}' lacks the key of segment {segment}, and no ledger says it was purged",
                hint="Somebody removed keys. Fetch the keyring from another store, or from the store's own snapshots "
                "(`backupd manual incidents`).",
            )

    def class_of(self, segment: Pseudonym) -> ClassTag | None:
        """Return the tag of a segment's data class; None for a segment that no keyring lists."""
        return self._classes.get(segment)

    def _add(self, keyring: Keyring, identity_secret: bytes) -> KeyRefusedError | None:
        self._shredded |= dict.fromkeys(keyring.shredded, keyring.where)
        self._classes |= {
            segment: tags.data_class for (segment, _), tags in zip(keyring.index, keyring.tags, strict=True)
        }
        try:
            opened = keyring.open(identity_secret)
        except KeyRefusedError as refusal:
            self._refused |= {segment: refusal for segment, _ in keyring.index}
            return refusal
        if self.chunk_keys.setdefault(keyring.ids.generation, opened.chunk_key) != opened.chunk_key:
            raise DamageError(f"'{keyring.where}' holds another chunk key than its generation")
        self._segments |= opened.segments
        return None
