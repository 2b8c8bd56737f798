"""The foreign keys by which rows may find their tenant without being asked for, and why others may not. Pure.

A key says that a row refers to another one, and not that it belongs to it. So a key is *safe* only where nothing speaks
against it: it must hold for every row, and must not say who wrote a row, or what somebody has chosen.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from itertools import combinations

from backupd.model.inventory import ForeignKey, Table, TableKind, TableName
from backupd.model.tenancy import Column, Route

_PEOPLE = re.compile(
    r"(.*_)?(by|uid|author|creator|updater|modifier|editor|deleter|approver|reviewer|assignee|assigned_to|requester|"
    r"reporter|sender|recipient)"
)
"""Names of columns, without `_id`, that say who did something with a row."""
_CHOSEN = re.compile(r"(current|last|default|preferred|active|selected|previous|next)_.+")
"""Names of columns that say what somebody has chosen, or what comes before and after."""

NULLS = "may be null"
"""What is said against a key of which nothing else is."""

_FEWEST_PAIRS = 3
"""From so many tables on, the same two columns that lead into one table say who wrote a row."""


class KeyFacts:
    """The foreign keys of one inventory, judged. Partitions are judged with the topmost table they belong to."""

    def __init__(self, tables: Mapping[TableName, Table]) -> None:
        self._tables = tables
        self._family: dict[TableName, list[Table]] = defaultdict(list)
        for table in tables.values():
            self._family[self.root_of(table.name)].append(table)

    def root_of(self, name: TableName) -> TableName:
        """Return the topmost partitioned table that a table is part of; for any other table, itself."""
        parents = self._tables[name].parents
        return parents[-1] if parents else name

    def members(self, root: TableName) -> list[Table]:
        """Return a topmost table with all its partitions, at any level; for any other table, it alone."""
        return self._family[root]

    def roots(self) -> Iterable[TableName]:
        """Return every table that is no partition."""
        return self._family

    def keys_of(self, root: TableName) -> list[ForeignKey]:
        """Return the keys that all rows of a table have, by the names that one of its members gives them.

        They are those of the table itself, or those that each of its partitions has. None leads back into the table.
        """
        leaves = [one for one in self._family[root] if one.kind is not TableKind.PARTITIONED] or self._family[root]
        if root in self._tables and self._tables[root].foreign_keys:
            leaves = [self._tables[root]]
        first, *others = leaves
        theirs = [{_signature(key) for key in one.foreign_keys} for one in others]
        found = {_signature(key): key for key in reversed(first.foreign_keys)}
        return sorted(
            (
                key
                for signature, key in found.items()
                if all(signature in each for each in theirs) and self.root_of(key.target) != root
            ),
            key=lambda key: key.name,
        )

    def same_key(self, table: Table, key: ForeignKey) -> ForeignKey | None:
        """Return a table's own key that is like the given one of its family; None when it has none."""
        return next((one for one in table.foreign_keys if _signature(one) == _signature(key)), None)

    def doubt(self, key: ForeignKey) -> str:
        """Return why rows are not taken to belong to whom this key leads to; empty when nothing speaks against it."""
        return self._unsound(key) or self.name_doubt(key) or ("" if key.required else NULLS)

    @staticmethod
    def _unsound(key: ForeignKey) -> str:
        if key.foreign_code:
            return "compares by a function of a role that is no superuser"
        if key.temporal:
            return "compares periods: a row may have several targets"
        return "" if key.validated else "was never validated, or is not enforced"

    def name_doubt(self, key: ForeignKey) -> str:
        """Return what the names of a key's columns say against it: it is about who wrote a row, or what was chosen."""
        for column in key.columns:
            name = _snake(column)
            if _PEOPLE.fullmatch(name) or (column, self.root_of(key.target)) in self._writers:
                return "says who wrote or handles the row"
            if _CHOSEN.fullmatch(name):
                return "says what was chosen, and may change"
        return ""

    def named_by(self, routes: Mapping[TableName, Route]) -> dict[TableName, dict[str, str]]:
        """Return the columns to which columns that name tenants refer, by topmost table, each with the key's doubt.

        They name tenants, too: a tenants' table that nobody named is found by them. A table's keys to itself say
        nothing of it.
        """
        found: dict[TableName, dict[str, str]] = {}
        by_column = [(name, route.column) for name, route in routes.items() if isinstance(route, Column)]
        for name, own in sorted(by_column):
            for key in self._tables[name].foreign_keys:
                target = self.root_of(key.target)
                if own in key.columns and target != self.root_of(name):
                    column = key.target_columns[key.columns.index(own)]
                    columns = found.setdefault(target, {})
                    doubt = self._unsound(key)
                    columns[column] = min(columns.get(column, doubt), doubt)
        return found

    def pairing(self, root: TableName, tenants: TableName, *, loosely: bool) -> TableName | None:
        """Return a table that pairs rows of a table with tenants, so that one may belong to several; None if none does.

        It has one key to each, where neither alone is unique, and a unique key over both. `loosely`, it need not have
        that, but no further key, and both must be required.
        """
        strict, loose = self._pairs(tenants)
        return strict.get(root) or (loose.get(root) if loosely else None)

    @cached_property
    def _writers(self) -> frozenset[tuple[str, TableName]]:
        """Columns that come in the same pairs in most of the tables that refer to a table, as create_uid, write_uid."""
        pairs: Counter[tuple[frozenset[str], TableName]] = Counter()
        referring: Counter[TableName] = Counter()
        for root in self._family:
            columns: defaultdict[TableName, set[str]] = defaultdict(set)
            for key in self.keys_of(root):
                columns[self.root_of(key.target)].update(key.columns if len(key.columns) == 1 else ())
            for target, names in columns.items():
                referring[target] += 1
                pairs.update((frozenset(pair), target) for pair in combinations(sorted(names), 2))
        return frozenset(
            (column, target)
            for (names, target), count in pairs.items()
            if count >= max(_FEWEST_PAIRS, referring[target] / 2)
            for column in names
        )

    def _pairs(self, tenants: TableName) -> tuple[dict[TableName, TableName], dict[TableName, TableName]]:
        if tenants not in self._paired:
            strict: dict[TableName, TableName] = {}
            loose: dict[TableName, TableName] = {}
            for root in sorted(self._family):
                table, keys = self._tables.get(root), [key for key in self.keys_of(root) if not self.name_doubt(key)]
                ours = [key for key in keys if self.root_of(key.target) == tenants]
                others = [key for key in keys if key not in ours]
                if table is None or not ours or not others:
                    continue
                for other in others:
                    alone = any(frozenset(key.columns) in table.unique for key in (*ours, other))
                    both = any(frozenset({*one.columns, *other.columns}) in table.unique for one in ours)
                    if both and not alone:
                        strict.setdefault(self.root_of(other.target), root)
                    if len(keys) == 2 and not alone and all(key.required for key in keys):
                        loose.setdefault(self.root_of(other.target), root)
            self._paired[tenants] = strict, loose
        return self._paired[tenants]

    @cached_property
    def _paired(self) -> dict[TableName, tuple[dict[TableName, TableName], dict[TableName, TableName]]]:
        return {}


def _signature(key: ForeignKey) -> tuple[tuple[str, ...], TableName, tuple[str, ...]]:
    return key.columns, key.target, key.target_columns


def _snake(column: str) -> str:
    """Spell a column's name in lower case with underscores, without the `_id` at its end."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column).lower().removesuffix("_id")
