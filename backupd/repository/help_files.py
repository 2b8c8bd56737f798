"""The files that let people read a store without backupd: `RECOVER.md` and the script `recover`.

`backupd manual trust`, row *`recover`, `RECOVER.md`*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from backupd.errors import ObjectMissingError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.repository import layout
from backupd.store.base import StoreView

_LARGEST = 1 << 20


def guide() -> bytes:
    """Return the text of `RECOVER.md`."""
    return resources.files(__package__).joinpath("RECOVER.md").read_bytes()


def script() -> bytes:
    """Return the stand-alone program `recover`, as it stands in `scripts/`."""
    packaged = resources.files(__package__).joinpath("recover")
    if packaged.is_file():
        return packaged.read_bytes()
    # A checkout, or an editable install of one: the wheel has its copy from here (pyproject.toml, force-include).
    return Path(__file__).parents[2].joinpath("scripts", "recover").read_bytes()


def own_files() -> dict[ObjectName, bytes]:
    """Return the files as this program has them, by the names that they get on a store."""
    return {layout.GUIDE: guide(), layout.SCRIPT: script()}


def own_hashes() -> dict[str, ObjectHash]:
    """Return the SHA-256 of each file as this program has it."""
    return {name: _hash(data) for name, data in own_files().items()}


def of_others(signed: Mapping[str, str]) -> tuple[ObjectName, ...]:
    """Return the names of files that a signer put, and that are not as this program has them."""
    return tuple(name for name, own in own_files().items() if signed.get(name, _hash(own)) != _hash(own))


def altered(view: StoreView, signed: Mapping[str, str]) -> Iterator[tuple[ObjectName, str]]:
    """Yield each file on a store that is not what a signer put there, with what is wrong with it.

    The program among them gets the identity and its passphrase from the person who runs it.
    """
    for name in (layout.GUIDE, layout.SCRIPT):
        if name not in signed:
            continue
        try:
            data = view.get(name, 0, _LARGEST + 1)
        except ObjectMissingError:
            yield name, "is missing; every checkout of backupd has one"
            continue
        if _hash(data) != signed[name]:
            yield name, f"is not what a signer put there, whose SHA-256 is {signed[name]}: never run or follow it"


def _hash(data: bytes) -> ObjectHash:
    return ObjectHash(hashlib.sha256(data).hexdigest())
