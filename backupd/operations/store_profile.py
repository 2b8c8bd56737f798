"""The signed profile of a store in `repository.json`: whom it names, and what of it was accepted."""

from __future__ import annotations

from collections.abc import Iterable

from backupd.model.documents import RepositoryInfo


def unnamed_signers(info: RepositoryInfo, signers: Iterable[str]) -> tuple[str, ...]:
    """Return the signers whose snapshots are left out by who trusts what the document names, sorted."""
    return tuple(sorted(frozenset(signers) - frozenset(info.signers)))
