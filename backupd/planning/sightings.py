"""Decide from a search whether anything knows a tenant. Pure.

A tenant that nothing knows was most likely mistyped, and erasing it proves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from backupd.errors import RefusedError
from backupd.model.ids import TenantId

_LIKENESS: float = 0.75
"""How alike two names are at least, from 0 to 1, that one of them may be the other mistyped."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """The places that were searched for a tenant, and whether each of them names it."""

    tenant: TenantId
    in_ledger: bool
    stores: Mapping[str, bool] = field(default_factory=dict)
    """By store whose keyrings were all read, whether one of them lists the tenant, or did before it expired."""
    unreached: tuple[str, ...] = ()
    """Places that could not be searched, as a message names them."""
    listed: bool | None = None
    """Whether the lifecycle query returns the tenant; None when it was not asked."""
    nearest: TenantId | None = None
    """The tenant of the lifecycle query whose name is spelled nearly like the given one."""

    @property
    def known(self) -> bool:
        """True when at least one place names the tenant."""
        return self.in_ledger or any(self.stores.values()) or bool(self.listed)


def nearest_name(given: str, names: list[str]) -> str | None:
    """Return the name that is spelled most nearly like the given one; None when none is near it."""
    return next(iter(get_close_matches(given, names, 1, _LIKENESS)), None)


def require_known(seen: Sightings) -> None:
    """Raise RefusedError for a tenant that nothing knows. The message says what was searched, and names no tenant."""
    if seen.known:
        return
    searched = ["the ledger"]
    if seen.stores:
        searched.append(f"all keyrings on {', '.join(sorted(seen.stores))}")
    if seen.listed is not None:
        searched.append("the lifecycle query")
    message = f"nothing knows tenant {seen.tenant}: searched were {_joined(searched)}"
    if seen.unreached:
        message += f"; {_joined(seen.unreached)} could not be searched"
    likely = (
        f"Spelled nearly so is tenant {seen.nearest}, which --id takes. " if seen.nearest else "Check the spelling. "
    )
    raise RefusedError(message, hint=f"{likely}Give --unknown if you are sure.")


def _joined(places: list[str] | tuple[str, ...]) -> str:
    return f"{', '.join(places[:-1])} and {places[-1]}" if len(places) > 1 else places[0]
