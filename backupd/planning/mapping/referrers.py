"""Foreign keys followed backwards, from a row to the one that refers to it. Pure.

A row that its owner refers to, as an organisation to its settings, says nothing of its owner itself. Where no two rows
may refer to the same one, which a unique key over the referring columns says, the row has one owner or none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from backupd.model.inventory import ForeignKey, Table, TableName

SIGN = "<"
"""What stands before a key that a rule follows backwards, with the table that has it: `<public.organisation.settings`.
"""


class Referrers:
    """The keys of one inventory by the table that they lead to.

    Those of partitions do not count: a row may be referred to from several of them.
    """

    def __init__(self, tables: Mapping[TableName, Table]) -> None:
        self._tables = tables
        self._keys: defaultdict[TableName, list[tuple[Table, ForeignKey]]] = defaultdict(list)
        for table in tables.values():
            for key in table.foreign_keys if not table.parents else ():
                self._keys[key.target].append((table, key))

    def of(self, table: Table) -> list[tuple[Table, ForeignKey]]:
        """Return the keys that lead to rows of a table, or of a partitioned table that it is part of, with theirs."""
        return [found for name in (table.name, *table.parents) for found in self._keys.get(name, ())]


def backward(owner: Table, key: ForeignKey) -> ForeignKey:
    """Return a table's key as it is followed from the row that it refers to. A row may be referred to by none."""
    return replace(
        key,
        columns=key.target_columns,
        target=owner.name,
        target_columns=key.columns,
        required=False,
        backward=True,
    )
