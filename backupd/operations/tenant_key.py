"""The look whether a machine's tenant key is the one under which a repository was written.

Under another one every tenant is somebody unknown: purged tenants would come back into backups, and purges would find
nothing of them. A copy of the key is brought to a new machine by hand, so that another one may come there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from backupd.errors import UNSOUND, RefusedError
from backupd.repository import layout

if TYPE_CHECKING:
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import Keyring
    from backupd.seal.tags import TenantTags

_GENERATIONS: Final = 4
_KEYRINGS: Final = 4
"""Keyrings of a generation that are read until one is of this key: some may be forged."""
_LINES: Final = 64


def check_tenant_key(repository: Repository, tags: TenantTags) -> None:
    """Refuse a tenant key by which no listing in the newest keyrings has the pseudonym that it should have.

    Nothing is known where no keyring can be believed, or none is shown to this account. Raises RefusedError, and the
    store's errors.
    """
    other = ""
    for keyring in _newest(repository):
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


def _newest(repository: Repository) -> Iterator[Keyring]:
    """Yield the sound ones of the newest keyrings."""
    generations = sorted({generation for generation, _ in repository.records()}, reverse=True)
    for generation in generations[:_GENERATIONS]:
        names = sorted((info.name for info in repository.store.list(layout.keyrings_folder(generation))), reverse=True)
        for name in [one for one in names if layout.place_of(one).kind is layout.ObjectKind.KEYRING][:_KEYRINGS]:
            try:
                yield repository.keyring(name)
            except UNSOUND:
                continue
