"""The units of a machine, and the credentials that the work of each takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from backupd.config.faults import spell
from backupd.config.files import secret_files
from backupd.config.schema import Config
from backupd.config.toml_lines import KeyPath

UNITS: Final = ("node", "keeper", "drill")
"""The units that `backupd-as` knows; each has a folder of credentials by this name."""
_EVERYBODY: Final = frozenset(UNITS)
_NODE, _KEEPER, _DRILL = (frozenset({unit}) for unit in UNITS)
_NOBODY: Final = frozenset[str]()
_USES: Final = (
    (("node", "signing_key_file"), _NODE, _NOBODY, "sign backups as the node"),
    (("node",), _EVERYBODY, _NOBODY, ""),
    (("keeper",), _KEEPER | _DRILL, _NOBODY, "sign removals as the keeper"),
    (("drill",), _DRILL, _NOBODY, "read the backups"),
    (("stores", "*", "keeper_key"), _KEEPER, _DRILL, "remove the backups"),
    (("stores",), _EVERYBODY, _NOBODY, ""),
    (("notify",), _NOBODY, _EVERYBODY, ""),
    (("regions", "*", "lifecycle"), _KEEPER, _DRILL, "read the tenants' dates"),
    ((), _NODE, _KEEPER | _DRILL, ""),
)
"""For secrets below a key, of which the first row counts: the units that need them, those that may have them, and what
a thief of any other unit could do with them."""


@dataclass(frozen=True, slots=True)
class UnitCredentials:
    """The credentials that the configuration names, as one unit sees them: by name, without `credential:`."""

    needed: Mapping[str, str]
    """Names that the unit's work reads, each with the key that names it."""
    optional: frozenset[str]
    """Names that it uses where it has them."""
    forbidden: Mapping[str, str]
    """Names that belong to another unit, each with what a thief of this unit could do with it."""


def unit_credentials(config: Config, unit: str) -> UnitCredentials:
    """Sort the credentials of a configuration by what one of `UNITS` has to do with them."""
    needed: dict[str, str] = {}
    optional: set[str] = set()
    forbidden: dict[str, str] = {}
    for path, reference in secret_files(config):
        if not reference.is_credential:
            continue
        needs, may_have, harm = _use(path)
        if unit in needs:
            needed.setdefault(reference.credential_name, spell(path))
        elif unit in may_have:
            optional.add(reference.credential_name)
        else:
            forbidden[reference.credential_name] = harm
    own = needed.keys() | optional
    return UnitCredentials(
        needed, frozenset(optional), {name: harm for name, harm in forbidden.items() if name not in own}
    )


def _use(path: KeyPath) -> tuple[frozenset[str], frozenset[str], str]:
    """Return the units that need a secret, those that may have it, and what a thief in any other could do with it."""
    return next((needs, may_have, harm) for place, needs, may_have, harm in _USES if _fits(path, place))


def _fits(path: KeyPath, place: tuple[str, ...]) -> bool:
    return len(path) >= len(place) and all(part in ("*", name) for name, part in zip(path, place, strict=False))
