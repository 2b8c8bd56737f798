"""The look whether a machine's tenant key is the one under which a repository was written.

Under another one every tenant is somebody unknown: purged tenants would come back into backups, and purges would find
nothing of them. A copy of the key is brought to a new machine by hand, so that another one may come there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from backupd.errors import UNSOUND, RefusedError
from backupd.repository import layout

if TYPE_CHECKING:
    from backupd.model.ids import ObjectName
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import Keyring
    from backupd.seal.tags import TenantTags
    from backupd.store.base import ObjectInfo

_GENERATIONS: Final = 4
_KEYRINGS: Final = 4
"""Keyrings of a generation that are read until one is of this key: some may be forged."""
_OLDEST: Final = 32
"""Sound keyrings that are read before a key is refused, or let pass because nothing is known."""
_MOST: Final = 1000
_LINES: Final = 64


def check_tenant_key(repository: Repository, tags: TenantTags) -> None:
    """Refuse a tenant key by which no listing in the newest and the oldest keyrings has the pseudonym that it should
    have.

    Who may add objects can put any number of keyrings under the newest names, signed ones if he stole a node's key, but
    none that is older by the store's time. One listing of this key convinces: nobody makes it without the key.

    Nothing is known where no keyring can be believed, or none is shown to this account. Raises RefusedError, and the
    store's errors.
    """
    other = ""
    for keyring in _some(repository):
        for segment, own in keyring.index[:_LINES]:
            if tags.pseudonym(keyring.ids.generation, own) == segment:
                return
            other = other or keyring.where
    if other:
        raise RefusedError(
            f"the tenant key of this machine is not the one under which '{other}' was written",
            hint="Bring the region's tenant key from its copy (`backupd manual service`): under another one, purged "
            "tenants come back into backups. If that keyring was forged, `backupd verify` tells which are sound.",
        )


def _some(repository: Repository) -> Iterator[Keyring]:
    """Yield sound ones of the newest keyrings by name, then of the oldest by the store's time."""
    generations = sorted({generation for generation, _ in repository.records()}, reverse=True)
    for generation in generations[:_GENERATIONS]:
        listed = repository.store.list(layout.keyrings_folder(generation))
        yield from _sound(repository, sorted(_keyrings(listed), reverse=True)[:_KEYRINGS])
    oldest = sorted(repository.store.list(layout.KEYRINGS), key=lambda info: info.modified)
    yield from islice(_sound(repository, _keyrings(oldest)[:_MOST]), _OLDEST)


def _keyrings(listed: Iterable[ObjectInfo]) -> list[ObjectName]:
    return [info.name for info in listed if layout.place_of(info.name).kind is layout.ObjectKind.KEYRING]


def _sound(repository: Repository, names: Iterable[ObjectName]) -> Iterator[Keyring]:
    for name in names:
        try:
            yield repository.keyring(name)
        except UNSOUND:
            continue
