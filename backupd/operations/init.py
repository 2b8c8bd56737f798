"""Make a region's repository on its stores: look at every store, probe it, put the help files, and last the document
that makes the folder a repository.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from backupd.clock import Clock
from backupd.errors import DamageError, RefusedError
from backupd.model.documents import RepositoryInfo
from backupd.model.ids import ObjectName, RegionName, RepositoryId
from backupd.model.text import stamp
from backupd.repository import help_files, layout
from backupd.repository.repository import Repository, unnamed_keepers
from backupd.seal.documents import Signer
from backupd.store.probe import ProbedStore, probe

_HARMLESS = (layout.ObjectKind.HELP, layout.ObjectKind.TEMPORARY, layout.ObjectKind.INCOMING)
"""Kinds of objects that an interrupted init may have left behind."""


@dataclass(frozen=True, slots=True)
class NamedStore:
    """A store under its configured name."""

    name: str
    store: ProbedStore


@dataclass(frozen=True, slots=True)
class Initialised:
    """The repository that `init` found or made on one store."""

    store: str
    repository: RepositoryId
    created: bool
    """False when the repository was there already, made by a trusted signer; it was left alone then."""
    profile: Mapping[str, Any]
    unnamed_keepers: tuple[str, ...] = ()
    """Public keys of trusted keepers that the repository, which was there already, does not name."""
    help: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the files there that help without backupd, by their names, as they were put."""


@dataclass(frozen=True, slots=True)
class Founder:
    """The signer and the trusted keys that a new repository is made from."""

    signer: Signer
    trusted: Collection[str]
    """Public keys of signers to be named in the repository beside `signer`, 64 hex digits each."""
    clock: Clock
    random: Callable[[int], bytes]
    keepers: Collection[str] = ()
    """Public keys whose ledger entries readers are to believe; empty for the signers' own."""


def initialise(region: RegionName, places: Sequence[NamedStore], founder: Founder) -> list[Initialised]:
    """Make the repository on every store of the region that has none.

    All of a region's stores hold one repository: a store added later, or missed when init was cut off, gets the id of
    the others. Raises RefusedError, before anything is written, over a folder that holds anything else, and when every
    store has the repository already.
    """
    signers = frozenset(founder.trusted) | {founder.signer.public}
    # 1. Look at every store before writing to any.
    found = {place.name: _existing(region, place, signers) for place in places}
    # 2. One region, one repository.
    existing = {info.repository for info in found.values() if info is not None}
    if len(existing) > 1:
        raise RefusedError(
            f'the stores of region "{region}" hold different repositories',
            hint="Give one of them another path, or take it out of the region's stores.",
        )
    if all(found.values()):
        missed = {key for info in found.values() if info is not None for key in unnamed_keepers(info, founder.keepers)}
        raise RefusedError(f'region "{region}" is initialised on {_listed(found)}', hint=_nothing_left(missed))
    # 3. Make it where it is missing.
    repository = existing.pop() if existing else RepositoryId(founder.random(16).hex())
    made = []
    for place in places:
        info = found[place.name]
        created = info is None
        if info is None:
            info = RepositoryInfo(
                repository=repository,
                region=region,
                created=stamp(founder.clock.now()),
                signers=sorted(signers),
                keepers=sorted(founder.keepers),
                profile=msgspec.to_builtins(probe(place.store, founder.random)),
                help=help_files.own_hashes(),
            )
            _publish(Repository(place.store, signers), info, founder.signer)
        unnamed = unnamed_keepers(info, founder.keepers)
        made.append(Initialised(place.name, repository, created, info.profile, unnamed, info.help))
    return made


def _existing(region: RegionName, place: NamedStore, signers: frozenset[str]) -> RepositoryInfo | None:
    """Return our repository's document on this store, or None for a folder that may become a repository.

    Raises RefusedError for a folder that holds other files, another region's repository, or one of an untrusted signer.
    """
    repository = Repository(place.store, signers)
    if not repository.exists():
        for found in place.store.list(ObjectName("")):
            if layout.place_of(found.name).kind not in _HARMLESS:
                raise RefusedError(
                    f'store "{place.name}" holds other files in the folder of region "{region}"',
                    hint="Give the store a path of its own; backupd removes nothing it did not write.",
                )
        return None
    try:
        info = repository.info()
    except DamageError:
        raise RefusedError(
            f'store "{place.name}" holds a repository that was not made by a signer we trust',
            hint="If it is yours, add its writer's key to `signers` under [trust]; else give the store another path.",
        ) from None
    if info.region != region:
        raise RefusedError(
            f'store "{place.name}" holds the repository of region "{info.region}" where that of "{region}" belongs',
            hint="Folders of regions must not be moved or renamed.",
        )
    return info


def _publish(repository: Repository, info: RepositoryInfo, signer: Signer) -> None:
    """Put the help files and then the repository's document: the help must be there whenever the repository is."""
    for name, data in help_files.own_files().items():
        # An interrupted init may have left it, perhaps of another version; nothing refers to it yet.
        repository.store.remove(name)
        repository.put_document(name, data)
    repository.put_info(info, signer)


def _nothing_left(unnamed: Collection[str]) -> str:
    """Return the hint of an init that has nothing to do; it names the keepers that the repository does not."""
    if not unnamed:
        return "There is nothing left to do."
    return (
        f"There is nothing left to do; but it does not name the keeper {', '.join(sorted(unnamed))} of trust.keepers: "
        "`recover` needs that key as --keeper until `backupd store accept STORE --reason REFERENCE` names it."
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
