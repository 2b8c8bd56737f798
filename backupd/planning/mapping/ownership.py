"""The tables that belong to tenants by their keys alone, once the tenants' table is named. Pure.

What a table belongs to is looked for from the tenants' table outward: first the tables with a key to it, under any
name; then those with a safe key to one of these; and so on, so that a parent is mapped before its children, and each
table by its shortest way. Where two ways are as short, one is taken only where the database itself says that rows live
and die with it (ON DELETE CASCADE); else it is left to a person, and what depends on it waits.

Nothing is taken from rows, their numbers or statistics: a restored copy is mapped as its source was.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from backupd.model.inventory import ForeignKey, Table, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Gap, Route, Way
from backupd.model.text import counted
from backupd.planning.mapping.keys import NULLS, KeyFacts
from backupd.planning.mapping.referrers import Referrers, backward
from backupd.planning.mapping.rules import as_step, joined, onward, spelled, spelled_backward


@dataclass(frozen=True, slots=True)
class Undecided:
    """A table that keys alone do not map: the reason, and the keys that could."""

    gap: Gap
    reason: str
    keys: tuple[ForeignKey, ...] = ()
    columns: tuple[str, ...] = ()
    """Columns that could, without a key."""
    referring: tuple[tuple[Table, ForeignKey], ...] = ()
    """Keys of other tables that could, followed backwards."""


class Ownership:
    """The search for what rows belong to; `routes` grows with it, and holds what rules have settled before."""

    def __init__(
        self,
        tables: Mapping[TableName, Table],
        keys: KeyFacts,
        tenants: TableName,
        routes: dict[TableName, Route],
        ruled: frozenset[TableName],
    ) -> None:
        """`ruled` tables are left to their rules, whether those have given them a route or not."""
        self._tables = tables
        self._keys = keys
        self._tenants = keys.root_of(tenants)
        self._routes = routes
        self._open = {
            root
            for root in keys.roots()
            if any(one.name not in routes and one.name not in ruled for one in keys.members(root))
        }
        self._ruled = ruled
        self._optional: dict[TableName, ForeignKey] = {}
        self._referrers = Referrers(tables)
        self.undecided: dict[TableName, Undecided] = {}
        """The tables that are left to a person, or wait for one that is, by their topmost table."""

    def start(self) -> None:
        """Settle the tables with a key to the tenants' table itself."""
        for root in sorted(self._open):
            keys = [key for key in self._leading(root) if self._keys.root_of(key.target) == self._tenants]
            meant = [key for key in keys if not self._keys.name_doubt(key)]
            optional = bool(meant) and self._may_be_null(root, meant[0])
            pairs = self._keys.pairing(root, self._tenants, loosely=optional)
            if len(meant) > 1:
                self._leave(root, Gap.SEVERAL, f"{counted(len(meant), 'key')} lead to the tenants' table", meant)
            elif meant and pairs is not None:
                self._leave(
                    root, Gap.DOUBTFUL, f"a row may belong to several tenants: {pairs.dotted} pairs them", meant
                )
            elif optional:
                self._optional[root] = meant[0]
            elif meant and self._end(meant[0].target) is not None:
                self._settle(root, meant[0])

    def advance(self, *, patient: bool = True) -> bool:
        """Settle the tables that are one safe key away from what is settled; return whether there was any.

        When `patient`, a table waits for the one that its rows are deleted with, though another is nearer.
        """
        reached = {root for root in self._keys.roots() if self._is_reached(root)}
        found = {root: keys for root in sorted(self._open) if (keys := self._safe(root, reached))}
        if patient:
            found = {root: keys for root, keys in found.items() if not self._waits_for_owner(root, keys)}
        for root, keys in found.items():
            meant = _meant(keys, self._keys) if root not in self._optional else None
            if meant is None:
                several = [self._optional.pop(root), *keys] if root in self._optional else keys
                self._leave(root, Gap.SEVERAL, f"{counted(len(several), 'key')} lead to tenants", several)
            elif (target := self._keys.root_of(meant.target)) in self.undecided:
                self._leave(root, Gap.WAITING, f"it follows {target.dotted}, which is not mapped yet", [meant])
            else:
                self._settle(root, meant)
        return bool(found)

    def _waits_for_owner(self, root: TableName, keys: Sequence[ForeignKey]) -> bool:
        later = [key for key in self._safe(root, self._open) if key.cascades]
        return bool(later) and not any(key.cascades for key in keys)

    def advance_by_optional(self) -> bool:
        """Settle the tables whose only way is a key to the tenants' table that may be null; return whether any was."""
        found, self._optional = self._optional, {}
        for root, key in sorted(found.items()):
            self._settle(root, key)
        return bool(found)

    def finish(self) -> None:
        """Say of the tables that are left why no key maps them."""
        self._leave_reached()
        named = {
            route.column
            for name, route in self._routes.items()
            if isinstance(route, Column) and name not in self._tenants_own()
        }
        self._offer_columns(named)
        referred = self._keys.named_by(self._routes)
        for root in sorted(self._open):
            like = self._like(root, named)
            if like:
                self.undecided[root] = Undecided(Gap.DOUBTFUL, _no_key(like), columns=like)
            elif root in referred:
                self.undecided[root] = Undecided(Gap.DOUBTFUL, REFERRED, columns=tuple(sorted(referred[root])))
        self._open -= self.undecided.keys()
        self._leave_reached()  # what follows these has a way to a tenant, too
        self._offer_referrers()
        while self._leave_referred():
            self._leave_reached()
        self._leave_unkeyed()
        self._leave_reached()
        for root in sorted(self._open):
            written = [key for key in self._leading(root) if self._leads_to_tenants(key)]
            if written:
                reason = f"only who wrote its rows, or what was chosen, leads to a tenant: {_listed(written)}"
                self.undecided[root] = Undecided(Gap.NO_WAY, reason)
            else:
                self.undecided[root] = Undecided(Gap.NO_WAY, "no key leads from it to a tenant")

    def _leave_unkeyed(self) -> None:
        """Leave the tables with a column that leads to a tenant where it has the foreign key that it lacks here."""
        keyed = self._keyed()
        for root in sorted(self._open):
            own = {column for key in self._tables[root].foreign_keys for column in key.columns}
            if lost := self._like(root, keyed, own):
                self.undecided[root] = Undecided(Gap.DOUBTFUL, f"{', '.join(lost)}: {_UNKEYED}")
        self._open -= self.undecided.keys()

    def _keyed(self) -> set[str]:
        """Return the columns by which rows of some table lead to a tenant; natural keys, as `name`, are too common."""
        return {
            key.columns[0]
            for root in self._keys.roots()
            for key in self._leading(root)
            if len(key.columns) == 1
            and (key.columns != key.target_columns or folded(key.columns[0]).endswith("id"))
            and folded(key.columns[0]) != "id"
            and self._leads_to_tenants(key)
            and not self._keys.name_doubt(key)
        }

    def _offer_columns(self, named: set[str]) -> None:
        """Show a person the column that names tenants in other tables, too, where only doubtful keys were found."""
        for root, one in self.undecided.items():
            keyed = {column for key in self._keys.keys_of(root) for column in key.columns}
            like = self._like(root, named, keyed) if one.gap in _BY_KEYS else ()
            if like:
                self.undecided[root] = replace(one, reason=f"{_no_key(like)}; {one.reason}", columns=like)

    def _offer_referrers(self) -> None:
        """Show a person, where only doubtful keys were found, the table that refers to each row one to one."""
        for root, one in self.undecided.items():
            offered = self._referring(root) if one.gap is Gap.DOUBTFUL and not one.columns else []
            # What is not mapped itself may wait for this very table.
            found = [(owner, key) for owner, key in offered if self._end(owner.name) is not None]
            if found:
                reason = f"{_told(found)}; {one.reason}"
                self.undecided[root] = replace(one, gap=Gap.REFERRED, reason=reason, referring=tuple(found))

    def _leave_referred(self) -> bool:
        """Leave the tables to whose rows mapped ones refer one to one, or ones that wait; return whether any was."""
        found = {root: keys for root in sorted(self._open) if (keys := self._referring(root))}
        for root, keys in found.items():
            self.undecided[root] = Undecided(Gap.REFERRED, _told(keys), referring=tuple(keys))
        self._open -= found.keys()
        return bool(found)

    def _referring(self, root: TableName) -> list[tuple[Table, ForeignKey]]:
        """Return the keys that lead to each row of a table from one row at most, which belongs to a tenant."""
        if self._keys.pairing(root, self._tenants, loosely=False) is not None or root not in self._tables:
            return []
        return [
            (owner, key)
            for owner, key in self._referrers.of(self._tables[root])
            if key.single
            and owner.name != root
            and (owner.name == self._tenants or self._is_reached(owner.name))
            and self._keys.doubt(key) in ("", NULLS)
        ]

    def _like(self, root: TableName, named: set[str], without: Collection[str] = ()) -> tuple[str, ...]:
        """Return a table's columns of these names, also where they are spelled tenantId and tenant_id."""
        table, same = self._tables[root], {folded(name) for name in named}
        columns = (*table.columns, *table.generated)
        return tuple(sorted(one for one in columns if folded(one) in same and one not in without))

    def _leave_reached(self) -> None:
        """Leave the tables from which a key leads to what is mapped, or waits to be.

        A key to the tenants' table says that rows are tenants', even while nothing there is known to name one.
        """
        while True:
            reached = {self._tenants, *(root for root in self._keys.roots() if self._is_reached(root))}
            found = {root: keys for root in sorted(self._open) if (keys := self._possible(root, reached))}
            for root, keys in found.items():
                safe = [key for key in keys if not self._keys.doubt(key)]
                if safe:
                    target = self._keys.root_of(safe[0].target)
                    self._leave(root, Gap.WAITING, f"it follows {target.dotted}, {self._lack(target)}", safe)
                else:
                    self._leave(root, Gap.DOUBTFUL, f"{_listed(keys)}: {self._keys.doubt(keys[0])}", keys)
            if not found:
                return

    def _lack(self, target: TableName) -> str:
        """Return what keeps a table that follows this one from being mapped."""
        waits = self._is_reached(target)
        return "which is not mapped yet" if waits else "in which no column is known to name the tenant"

    def ways(self, root: TableName) -> tuple[Way, ...]:
        """Return the ways that a rule for an undecided table could name."""
        return tuple(self._ways(root))

    def others(self, name: TableName) -> tuple[Way, ...]:
        """Return the other safe ways of a table that its keys have mapped: for rows that are in order, all agree.

        A way to what the table pairs with tenants is none, as that may belong to several.
        """
        root = self._keys.root_of(name)
        found = []
        for key in self._keys.keys_of(root):
            paired = self._keys.pairing(self._keys.root_of(key.target), self._tenants, loosely=True) == root
            end = None if paired or self._keys.doubt(key) else self._end(key.target)
            route = None if end is None else onward(as_step(self._tables, key), end)
            if route is not None and not _same_way(route, self._routes[name]):
                found.append(Way(path=(spelled(self._tables[root], key),), route=route))
        return tuple(found)

    def _ways(self, root: TableName) -> Iterator[Way]:
        for column in self.undecided[root].columns:
            yield Way(column=column, remark="has no foreign key", route=Column(column))
        for owner, key in self.undecided[root].referring:
            end, step = self._end(owner.name), as_step(self._tables, backward(owner, key))
            led = None if end is None else joined((step,), end)
            remark = self._keys.doubt(key) or ("" if led else unsettled(owner.name))
            yield Way(path=(spelled_backward(owner, key),), remark=remark, route=led)
        for key in self.undecided[root].keys:
            doubt = self._keys.doubt(key)
            route = None
            if (end := self._end(key.target)) is not None:
                step = as_step(self._tables, key)
                route = onward(step, end)
                if isinstance(route, Column) and key.target in self._tenants_own():
                    yield Way(column=route.column, remark=doubt, route=route)
                    continue
                route = joined((step,), end)
            remark = doubt or ("" if route else unsettled(self._keys.root_of(key.target)))
            yield Way(path=(spelled(self._tables[root], key),), remark=remark, route=route)

    def _end(self, target: TableName) -> Route | None:
        """Return the route of a key's target. The tenants' table names tenants even where its own rows are shared."""
        table, route = self._tables[target], self._routes.get(target)
        if target in self._tenants_own() and not isinstance(route, Column) and len(table.primary) == 1:
            return Column(table.primary[0])
        return route if isinstance(route, Column | ForeignKeyPath) else None

    def _tenants_own(self) -> set[TableName]:
        return {one.name for one in self._keys.members(self._tenants)}

    def _leading(self, root: TableName) -> list[ForeignKey]:
        """Return the keys of a table that rules may name."""
        return [key for key in self._keys.keys_of(root) if not key.foreign_code and not key.temporal]

    def _safe(self, root: TableName, reached: set[TableName]) -> list[ForeignKey]:
        return [
            key
            for key in self._keys.keys_of(root)
            if self._keys.root_of(key.target) in reached and not self._keys.doubt(key)
        ]

    def _possible(self, root: TableName, reached: set[TableName]) -> list[ForeignKey]:
        return [
            key
            for key in self._leading(root)
            if self._keys.root_of(key.target) in reached and not self._keys.name_doubt(key)
        ]

    def _is_reached(self, root: TableName) -> bool:
        if root in self.undecided:
            return self.undecided[root].gap is not Gap.NO_WAY
        return any(self._end(one.name) is not None for one in self._keys.members(root))

    def _leads_to_tenants(self, key: ForeignKey) -> bool:
        target = self._keys.root_of(key.target)
        return target == self._tenants or self._is_reached(target)

    def _may_be_null(self, root: TableName, key: ForeignKey) -> bool:
        return any(not one.nullable.isdisjoint(key.columns) for one in self._keys.members(root))

    def _settle(self, root: TableName, key: ForeignKey) -> None:
        for member in self._keys.members(root):
            own = self._keys.same_key(member, key)
            end = self._end(key.target)
            if (
                own is not None
                and end is not None
                and member.name not in self._routes
                and member.name not in self._ruled
            ):
                self._routes[member.name] = onward(as_step(self._tables, own), end)
        self._open.discard(root)

    def _leave(self, root: TableName, gap: Gap, reason: str, keys: Sequence[ForeignKey]) -> None:
        self.undecided[root] = Undecided(gap, reason, tuple(keys))
        self._open.discard(root)


_UNKEYED: Final = "leads to a tenant in other tables; with a foreign key, NOT VALID will do, it can here"

REFERRED: Final = "tenant columns refer to it"
"""Why a table is left to which columns refer that name tenants, and which nobody has named as the tenants' table."""

_BY_KEYS = frozenset({Gap.DOUBTFUL, Gap.SEVERAL})
"""Why a table with keys to what is mapped is left."""


def _told(referring: Sequence[tuple[Table, ForeignKey]]) -> str:
    names = dict.fromkeys(owner.name.dotted for owner, _ in referring)
    return f"{' and '.join(names)} {'refers' if len(names) == 1 else 'refer'} to each row one to one"


def folded(column: str) -> str:
    """Return a column's name as it is for all its spellings: tenantId and tenant_id."""
    return column.replace("_", "").lower()


def unsettled(name: TableName) -> str:
    return f"leads to {name.dotted}, which is not mapped yet"


def _no_key(columns: Sequence[str]) -> str:
    return f"{', '.join(columns)}: is a tenant's in other tables, and has no foreign key here"


def _meant(keys: Sequence[ForeignKey], facts: KeyFacts) -> ForeignKey | None:
    """Return the key by which rows belong, where that is beyond doubt."""
    by_target: defaultdict[TableName, list[ForeignKey]] = defaultdict(list)
    for key in keys:
        by_target[facts.root_of(key.target)].append(key)
    alone = [found[0] for found in by_target.values() if len(found) == 1]
    living = [key for key in alone if key.cascades]
    if len(alone) == 1:
        return alone[0]
    return living[0] if len(living) == 1 else None


def _listed(keys: Sequence[ForeignKey]) -> str:
    return ", ".join(sorted({column for key in keys for column in key.columns}))


def _same_way(one: Route, other: Route) -> bool:
    """Check whether two routes ask the same columns of the same tables; keys of partitions have names of their own."""
    return _way(one) == _way(other)


def _way(route: Route) -> object:
    if isinstance(route, ForeignKeyPath):
        return [(step.key.columns, step.key.target, step.key.target_columns) for step in route.steps], route.column
    return route
