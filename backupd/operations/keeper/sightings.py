"""Search the ledger, the stores' keyrings and the application's own list for a tenant, without decrypting anything."""

from __future__ import annotations

from collections.abc import Callable

from backupd.errors import BackupdError, ConfigError, SourceError, StoreError
from backupd.model.ids import ObjectName, TenantId
from backupd.operations.keeper.types import Keeper
from backupd.planning.sightings import Sightings, nearest_name
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache

Register = Callable[[], list[str]]
"""Returns the names of the tenants that the lifecycle query returns; raises SourceError and ConfigError."""


def search_for_tenant(
    keeper: Keeper, tenant: TenantId, register: Register | None, given: str | None = None
) -> Sightings:
    """Search the ledger first, then the stores, and last the register: each only while the tenant is not known.

    `given` is the name that the operator typed, to find one near it. A store or a register that fails is named in the
    result, and so is a store of which a keyring cannot be believed.
    """
    if keeper.book.states.knows(tenant):
        return Sightings(tenant, in_ledger=True)
    stores, unreached = dict[str, bool](), list[str]()
    for name, repository in keeper.stores.items():
        try:
            stores[name] = _lists(keeper, name, repository, tenant)
        except StoreError:
            unreached.append(f"store {name}")
        except BackupdError:
            unreached.append(f"a damaged keyring on {name}")
    if any(stores.values()) or register is None:
        return Sightings(tenant, in_ledger=False, stores=stores, unreached=tuple(unreached))
    try:
        names = {keeper.tags.tenant_id(name): name for name in register()}
    except (SourceError, ConfigError):
        unreached.append("the lifecycle query")
        return Sightings(tenant, in_ledger=False, stores=stores, unreached=tuple(unreached))
    near = nearest_name(given, list(names.values())) if given is not None else None
    return Sightings(
        tenant,
        in_ledger=False,
        stores=stores,
        unreached=tuple(unreached),
        listed=tenant in names,
        nearest=keeper.tags.tenant_id(near) if near is not None else None,
    )


def _lists(keeper: Keeper, store: str, repository: Repository, tenant: TenantId) -> bool:
    """Say whether a keyring on a store lists the tenant in its first incarnation, or did before it left the store.

    Later incarnations are of tenants that the ledger knows. Raises StoreError, and DamageError or RefusedError for the
    first keyring that cannot be believed where no other lists the tenant.
    """
    unsound: dict[ObjectName, BackupdError] = {}
    with KeyringCache.opened(keeper.cache_path(store), keeper.repository, keeper.tags) as cache:
        cache.refresh(repository, unsound, keeper.threads)
        generations = {*cache.generations(), *cache.gone_generations()}
        for generation in generations:
            tag = keeper.tags.tenant_tag(generation, tenant, 1)
            if cache.of_tenant(generation, tag) or cache.gone_of_tenant(generation, tag):
                return True
    for error in unsound.values():
        raise error
    return False
