"""Step 4: the backup that is made before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import RefusedError, SourceError
from backupd.operations.region import back_up
from backupd.postgres.connect import connect
from backupd.postgres.inplace.transaction import instance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.operations.region import BackupTarget
    from backupd.postgres.connect import Source


@dataclass(frozen=True, slots=True)
class BackupBefore:
    """Backs up the database that is about to be written to, onto every one of these targets."""

    targets: Sequence[BackupTarget]
    running: Source
    database: str

    def __call__(self) -> str:
        """The name of the snapshot on the first store.

        Raises RefusedError when the target is not the database that is backed up, and what a backup does.
        """
        with connect(self.running, self.database) as connection:
            wanted = instance(connection)
        for job in (job for target in self.targets for job in target.jobs):
            with connect(job.source) as connection:
                if instance(connection) != wanted:
                    raise RefusedError(
                        "the target is not the database that is backed up under this label",
                        hint="Give its own connection in --target, or --no-backup-before with a reference to a backup.",
                    )
        made = []
        for outcome in back_up(self.targets):
            if outcome.error is not None:
                raise outcome.error
            made += [outcome.report] if outcome.report is not None else []
        if not made:
            raise SourceError("nothing was backed up", hint="The configuration names no store for this region.")
        return made[0].snapshot
