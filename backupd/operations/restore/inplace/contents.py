"""Step 1: what the snapshot holds of the tenant, and of the shared tables its rows refer to."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING

from backupd.model.inventory import TableName
from backupd.model.stored.documents import REDUCED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backupd.operations.restore.choosing import OpenedChoice
    from backupd.operations.restore.contents import SnapshotContents
    from backupd.planning.restoring.restore import Piece, RestorePlan, TablePlan


class TenantContents:
    """The plan of a snapshot, by whose the pieces are."""

    def __init__(self, choice: OpenedChoice, contents: SnapshotContents, plan: RestorePlan, tenant: str) -> None:
        self._contents = contents
        self._plan = plan
        names = {segment: choice.keys[segment].name for segment, _, _ in choice.record.parts}
        owners = [names[segment].tenant for segment, _, _ in choice.record.parts]
        self._pieces: dict[str | None, defaultdict[int, list[Piece]]] = {
            tenant: defaultdict(list),
            None: defaultdict(list),
        }
        for piece in (piece for bundles in plan.passes for bundle in bundles for piece in bundle):
            self._pieces[owners[piece.part]][piece.table].append(piece)
        self._tenant = tenant
        self.classes = frozenset(name.data_class for name in names.values() if name.tenant == tenant)
        """Of which the snapshot holds something of the tenant."""
        listed = {(schema, name) for schema, name, _ in plan.facts.tables}
        filled = {(table.schema, table.name) for table in plan.tables}
        self.known = frozenset(TableName(*name) for name in listed | plan.empty | filled)
        """Tables that were there."""
        self.incomplete = bool(choice.purged or choice.aged) or REDUCED in choice.record.extra
        """Whether something of this generation was purged, or went with the age of its class."""
        self.sequences = {(schema, name): last for schema, name, last, called in plan.sequences if called}
        """Last values."""

    @property
    def tables(self) -> dict[TableName, TablePlan]:
        """With rows of the tenant."""
        return self._named(self._tenant)

    @property
    def shared(self) -> dict[TableName, TablePlan]:
        """With rows of nobody."""
        return self._named(None)

    def rows_of(self, name: TableName, *, shared: bool = False) -> int:
        """Of the tenant in one table, or of nobody."""
        pieces = self._pieces[None if shared else self._tenant]
        found = (piece for place, group in pieces.items() if self._name(place) == name for piece in group)
        return sum(rows for piece in found for rows, _, _ in piece.unpacked()[0])

    def read(
        self, tenant: Iterable[TableName], shared: Iterable[TableName]
    ) -> Iterator[tuple[TableName, Iterator[memoryview]]]:
        """The rows of the tenant's tables, then of shared ones, each to be read before the next.

        Raises DamageError and the store's errors.
        """
        wanted = [(self._tenant, frozenset(tenant)), (None, frozenset(shared))]
        pieces = [
            piece
            for owner, names in wanted
            for place, found in sorted(self._pieces[owner].items())
            if self._name(place) in names
            for piece in found
        ]
        rows = self._contents.rows(pieces)
        for place, group in groupby(rows, key=lambda one: one[0].table):
            yield self._name(place), (piece for _, piece in group)

    def _named(self, owner: str | None) -> dict[TableName, TablePlan]:
        return {self._name(place): self._plan.tables[place] for place in self._pieces[owner]}

    def _name(self, place: int) -> TableName:
        table = self._plan.tables[place]
        return TableName(table.schema, table.name)
