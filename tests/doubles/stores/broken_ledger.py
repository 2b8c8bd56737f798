"""Ways to damage a ledger of four entries on a store, each by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from doubles.stores.small_repository import SmallRepository

from backupd.model.ledger import Observed
from backupd.repository.ledger import Chain, next_document, put_entry

Break = Callable[[SmallRepository, Path], None]


def observed(number: int) -> Observed:
    """An event that removes nothing."""
    return Observed(store="disk", snapshots=[f"daily-{number}"])


def entry(root: Path, number: int) -> Path:
    path = root / "ledger" / f"{number:010d}.json"
    path.chmod(0o600)
    return path


def _remove(_: SmallRepository, root: Path) -> None:
    entry(root, 2).unlink()


def _alter(_: SmallRepository, root: Path) -> None:
    path = entry(root, 2)
    path.write_bytes(path.read_bytes().replace(b"daily-2", b"daily-9"))


def _swap(_: SmallRepository, root: Path) -> None:
    one, two = entry(root, 2), entry(root, 3)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def _cut(_: SmallRepository, root: Path) -> None:
    entry(root, 3).unlink()
    entry(root, 4).unlink()


def _splice(small: SmallRepository, root: Path) -> None:
    """One entry put anew, rightly signed and in its place; those behind it stay."""
    _rewritten(small, root, [2])


def _rewrite(small: SmallRepository, root: Path) -> None:
    """Cut off and written anew, with the keeper's own key: only who saw the other one can tell."""
    _rewritten(small, root, [2, 3, 4])


def _rewritten(small: SmallRepository, root: Path, numbers: list[int]) -> None:
    before = small.chain.links
    small.chain = Chain(small.chain.region, small.chain.repository, before[: numbers[0] - 1])
    for number in numbers:
        entry(root, number).unlink()
        document = next_document(small.chain, before[number - 1].entry.at, [observed(100 + number)], small.signer)
        small.chain = small.chain.extended(document, {small.signer.public})
        put_entry(small.store, number, document)


BREAKS: dict[str, Break] = {
    "removed": _remove,
    "altered": _alter,
    "swapped": _swap,
    "cut": _cut,
    "spliced": _splice,
    "rewritten": _rewrite,
}
