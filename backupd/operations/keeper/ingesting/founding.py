"""A store's first document, handed in by a node that made the repository: nothing can be taken before it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.catalog import help as recovery
from backupd.catalog import layout
from backupd.catalog.handed import handed_in
from backupd.catalog.repository import Repository
from backupd.errors import DamageError, RefusedError
from backupd.model.stored.documents import RepositoryInfo, decode_body
from backupd.seal.documents import LIMITS, read_document

if TYPE_CHECKING:
    from collections.abc import Collection

    from backupd.model.ids import RegionName, RepositoryId
    from backupd.store.base import Store


def found(region: RegionName, store: Store, trusted: Collection[str], known: RepositoryId | None) -> bool:
    """Put the repository's document in its place, when there is none yet and a node handed one in.

    `known` is the region's repository on its other stores. The help that goes with it is this program's own: whoever
    has lost everything else will run it. Raises RefusedError and DamageError for a document that is not believed.
    """
    repository = Repository(store, trusted)
    if repository.exists():
        return False
    one = next((one for one in handed_in(store) if one.place.kind is layout.ObjectKind.REPOSITORY), None)
    if one is None:
        return False
    if not trusted:
        raise RefusedError(
            "a node handed a repository in, and no signer is trusted here",
            hint="Write the node's signer under [trust] on the keeper, too: a repository cannot vouch for itself.",
        )
    data = store.get(one.name, 0, LIMITS["repository"] + 1)
    info = decode_body(read_document(data, "repository", trusted, one.target), RepositoryInfo, one.target)
    if info.region != region or known not in (None, info.repository):
        raise DamageError(f"'{one.name}' is of another repository")
    repository.put_document(layout.GUIDE, recovery.guide())
    repository.put_document(layout.SCRIPT, recovery.script())
    repository.put_document(layout.REPOSITORY, data)
    return True
