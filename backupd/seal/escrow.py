"""An identity's secret half as k-of-n shares of words, FORMAT.md §5: SLIP-39, by the library that its authors maintain.

This is the only module that imports `shamir_mnemonic`. A share's words are a secret, so no message quotes one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, islice

from shamir_mnemonic import (  # type: ignore[import-untyped]  # the library has annotations, and does not say so
    MnemonicError,
    combine_mnemonics,
    generate_mnemonics,
    rs1024,
)
from shamir_mnemonic import (
    Share as Decoded,
)
from shamir_mnemonic.wordlist import WORD_INDEX_MAP  # type: ignore[import-untyped]  # as above

from backupd.errors import KeyRefusedError, RefusedError

MOST_SHARES = 16
"""The largest number of shares that SLIP-39 allows."""
WORDS = 84
"""Number of words of a share of 96 bytes."""
_SEEDS = (b"shamir_extendable", b"shamir")
"""The customization strings with which SLIP-39's checksum begins."""
_CHECKSUM = 3
_TRIED = 64
"""Number of combinations of new shares that are tried before the shares are returned."""


@dataclass(frozen=True, slots=True)
class Share:
    """One share of a set. Anybody who has `threshold` shares of a set has the identity."""

    name: str
    """The name of the share's file, for messages."""
    words: tuple[str, ...] = field(repr=False)
    set: int
    """A number that all shares of one split have in common."""
    number: int
    """The share's number within its set, from 1."""
    threshold: int


def split(secret: bytes, shares: int, threshold: int) -> list[Share]:
    """Split the secret half of an identity into shares, any `threshold` of which restore it; combinations are tried.

    Raises RefusedError when no such shares can be made: at least 2 together, at most MOST_SHARES in all.
    """
    if not 2 <= threshold <= shares <= MOST_SHARES:
        raise RefusedError(
            f"{threshold} of {shares} shares cannot be made",
            hint=f"At least 2 together, and not more than there are; {MOST_SHARES} shares at most.",
        )
    ((*mnemonics,),) = generate_mnemonics(1, [(threshold, shares)], secret)
    made = [parse(text.split(), f"share {number}") for number, text in enumerate(mnemonics, start=1)]
    for some in islice(combinations(made, threshold), _TRIED):
        if combine(some) != secret:
            raise RefusedError("the shares do not restore the identity", hint="Nothing was written; try again.")
    return made


def parse(words: Sequence[str], name: str) -> Share:
    """Read a share from its words; `name` is for messages.

    Raises KeyRefusedError, with the number of the wrong word where that can be found.
    """
    lower = tuple(word.lower() for word in words)
    for number, word in enumerate(lower, start=1):
        if word not in WORD_INDEX_MAP:
            raise KeyRefusedError(
                f"word {number} of '{name}' is none of the list's", hint="Compare it with the share, letter by letter."
            )
    if len(lower) != WORDS:
        raise KeyRefusedError(f"'{name}' has {len(lower)} words, and a share has {WORDS}", hint="Type all, in order.")
    try:
        share = Decoded.from_mnemonic(" ".join(lower))
    except MnemonicError:
        raise KeyRefusedError(f"{_suspect(lower)} of '{name}' wrong", hint="Compare them with the share.") from None
    return Share(name, lower, share.identifier, share.index + 1, share.member_threshold)


def combine(shares: Sequence[Share]) -> bytes:
    """Combine shares to the secret half that they restore.

    Raises KeyRefusedError when they are too few, not of one set, or do not belong together.
    """
    first = shares[0]
    for share in shares[1:]:
        if (share.set, share.threshold) != (first.set, first.threshold):
            raise KeyRefusedError(
                f"'{share.name}' belongs to another set of shares than '{first.name}'",
                hint="Identities that were split twice have two sets; shares of one cannot help the other.",
            )
    by_number = {share.number: share for share in shares}
    if len(by_number) < first.threshold:
        raise KeyRefusedError(
            f"{_counted(len(by_number))} given, and {first.threshold} are needed",
            hint="The same share twice counts once." if len(by_number) < len(shares) else "Bring more of the set.",
        )
    try:
        return bytes(combine_mnemonics(" ".join(one.words) for one in list(by_number.values())[: first.threshold]))
    except MnemonicError:
        raise KeyRefusedError("these shares do not belong together", hint="Compare each with its paper.") from None


def _counted(number: int) -> str:
    return "1 share is" if number == 1 else f"{number} shares are"


def _suspect(words: Sequence[str]) -> str:
    """Name the wrong word, if the change of a single word makes the checksum right."""
    data = [WORD_INDEX_MAP[word] for word in words]
    places = {place for seed in _SEEDS for place in _single_faults(data, seed)}
    if len(places) == 1:
        return f"word {places.pop() + 1}"
    return "several words"


def _single_faults(data: Sequence[int], seed: bytes) -> list[int]:
    """Return the places where another word would satisfy the checksum.

    The checksum is linear: a change of the same bits of a word always changes the same bits of the checksum.
    """
    body, given = list(data[:-_CHECKSUM]), _joined(data[-_CHECKSUM:])
    right = _joined(rs1024.create_checksum(body, seed))
    found = [
        len(body) + place for place in range(_CHECKSUM) if not (right ^ given) & ~(1023 << 10 * (_CHECKSUM - 1 - place))
    ]
    found += (place for place, effects in enumerate(_effects(len(body))) if right ^ given in _sums(effects))
    return found


@cache
def _effects(length: int) -> tuple[tuple[int, ...], ...]:
    """Return for each bit of each of `length` words how it changes the checksum, which does not depend on the words."""
    none = _joined(rs1024.create_checksum([0] * length, b""))
    return tuple(
        tuple(
            _joined(rs1024.create_checksum([*[0] * place, 1 << bit, *[0] * (length - place - 1)], b"")) ^ none
            for bit in range(10)
        )
        for place in range(length)
    )


def _sums(effects: Sequence[int]) -> set[int]:
    sums = {0}
    for effect in effects:
        sums |= {one ^ effect for one in sums}
    return sums


def _joined(values: Sequence[int]) -> int:
    return values[0] << 20 | values[1] << 10 | values[2]
