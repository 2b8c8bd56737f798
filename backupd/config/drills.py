"""The sections about restore drills: where they run, what they ask, and what a region must live up to."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field, model_validator

from backupd.config.section import Section
from backupd.config.text.fields import (
    AbsolutePath,
    Approval,
    Dsn,
    Duration,
    Name,
    QueryName,
    SecretFile,
    SelectStatement,
    Service,
    Size,
    User,
    within,
)

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_GIB = 1 << 30


class DrillSection(Section):
    """`[drill]`: this machine restores backups into a server of its own, and checks them."""

    identity: SecretFile
    """A file of its own, whose recipient the backups are sealed to."""
    passphrase_file: SecretFile
    escrow_identity: SecretFile | None = None
    """The identity kept for a disaster; with it, drills try that it opens what theirs opens."""
    escrow_passphrase_file: SecretFile | None = None
    scratch_dir: AbsolutePath | None = None
    """Where servers of drills lie while they run; None: in the spool folder."""
    user: User | None = None
    """Who runs them where drills run as root; None: nobody."""
    target_dsn: Dsn | None = None
    """A server set aside for drills, and marked as such; None: each makes one of its own."""
    target_service: Service | None = None
    target_passfile: SecretFile | None = None
    target_servicefile: SecretFile | None = None
    memory: Annotated[Size, Field(ge=_GIB // 2)] = 2 * _GIB
    """Of one process of a server that a drill makes; its caches and sorts are made to fit."""
    max_size: Annotated[Size, Field(ge=_GIB)] = 256 * _GIB
    restore_limit: Annotated[Duration, within(_SECOND)] = 12 * _HOUR
    check_limit: Annotated[Duration, within(_SECOND)] = 12 * _HOUR
    damage_every: Annotated[int, Field(ge=0, le=1000)] = 10
    """Every so many drills, one damages what it fetches, and must notice; 0: none does."""

    @model_validator(mode="after")
    def _escrow_opens(self) -> DrillSection:
        if (self.escrow_identity is None) != (self.escrow_passphrase_file is None):
            raise ValueError("needs both of escrow_identity and escrow_passphrase_file, or neither")
        return self

    @model_validator(mode="after")
    def _one_target(self) -> DrillSection:
        if self.target_dsn is not None and self.target_service is not None:
            raise ValueError("has both of target_dsn and target_service; a drill has one target")
        if self.target is None and (self.target_passfile is not None or self.target_servicefile is not None):
            raise ValueError("has files for a target, and no target")
        return self

    @property
    def target(self) -> str | None:
        """The connection string of the server set aside."""
        return self.target_dsn if self.target_service is None else f"service={self.target_service}"


class AssertionSection(Section):
    """One `[[regions.NAME.assertions]]`: what must be true in a restored database."""

    name: QueryName
    database: Name
    """The label of one of the region's databases."""
    sql: SelectStatement
    """Returns one row of one whole number."""
    exact: int | None = None
    minimum: int | None = None

    @model_validator(mode="after")
    def _asks(self) -> AssertionSection:
        if self.exact is None and self.minimum is None:
            raise ValueError("needs exact or minimum")
        return self


class ObjectivesSection(Section):
    """`[regions.NAME.objectives]`: a drill beyond one of these fails, and one that does not come is missed."""

    rpo: Annotated[Duration, within(_SECOND)] | None = None
    """The most that may be lost: from the newest snapshot that can be restored to the present."""
    rto: Annotated[Duration, within(_SECOND)] | None = None
    """From the beginning of a restore to a database that was checked."""
    drill_every: Annotated[Duration, within(_HOUR)] | None = None
    """The longest time between two drills; None: none is missed."""
    approval: Approval | None = None
    """Where it is written who approved them."""
