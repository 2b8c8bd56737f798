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

    identity: SecretFile = Field(
        description="The identity file that drills open backups with, one of its own. A machine with this "
        "section drills."
    )
    passphrase_file: SecretFile = Field(description="The file with the passphrase of `identity`.")
    escrow_identity: SecretFile | None = Field(
        default=None,
        description="The identity kept for a disaster. With it, drills try that it opens what theirs opens.",
    )
    escrow_passphrase_file: SecretFile | None = Field(
        default=None, description="The file with the passphrase of `escrow_identity`."
    )
    scratch_dir: AbsolutePath | None = Field(
        default=None,
        description="The folder where the server of a drill lies while it runs. Without it, the spool folder is used.",
    )
    user: User | None = Field(
        default=None, description="The user who runs that server where drills run as root. Without it, `nobody` does."
    )
    target_dsn: Dsn | None = Field(
        default=None,
        description="The connection string, without a password, of a server set aside for drills. Without it, "
        "each drill makes a server of its own.",
    )
    target_service: Service | None = Field(default=None, description="The same server, as the name of a service.")
    target_passfile: SecretFile | None = Field(
        default=None, description="The password file of that server, written as `.pgpass` is."
    )
    target_servicefile: SecretFile | None = Field(
        default=None,
        description="The file in which `target_service` is looked up. Without it, libpq looks where it always does.",
    )
    memory: Annotated[Size, Field(ge=_GIB // 2)] = Field(
        default=2 * _GIB,
        description="How much memory any one process of the drill's own server may have. Its caches and sorts "
        "are made to fit.",
    )
    max_size: Annotated[Size, Field(ge=_GIB)] = Field(
        default=256 * _GIB, description="How much room on the disk the drill's own server may take."
    )
    restore_limit: Annotated[Duration, within(_SECOND)] = Field(
        default=12 * _HOUR, description="A drill whose restore takes longer is stopped, and has no verdict."
    )
    check_limit: Annotated[Duration, within(_SECOND)] = Field(
        default=12 * _HOUR, description="A drill whose checks take longer is stopped, and has no verdict."
    )
    damage_every: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=10, description="One of this many drills damages what it fetches, and must notice. With 0, none does."
    )

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

    name: QueryName = Field(
        description="The name of a query whose answer must be right in a restored database, as reports show it."
    )
    database: Name = Field(description="The label of the database of this region that is asked.")
    sql: SelectStatement = Field(
        description="One `SELECT` that returns one row of one whole number, which no report shows."
    )
    exact: int | None = Field(
        default=None, description="The number that the answer must be. An assertion has this, `minimum`, or both."
    )
    minimum: int | None = Field(default=None, description="The least number that the answer may be.")

    @model_validator(mode="after")
    def _asks(self) -> AssertionSection:
        if self.exact is None and self.minimum is None:
            raise ValueError("needs exact or minimum")
        return self


class ObjectivesSection(Section):
    """`[regions.NAME.objectives]`: a drill beyond one of these fails, and one that does not come is missed."""

    rpo: Annotated[Duration, within(_SECOND)] | None = Field(
        default=None,
        description="The most that may be lost, from the newest snapshot that can be restored to the present. "
        "A drill that measures more fails.",
    )
    rto: Annotated[Duration, within(_SECOND)] | None = Field(
        default=None,
        description="The longest that a restore may take, from its beginning to a database that was checked. "
        "A drill that takes longer fails.",
    )
    drill_every: Annotated[Duration, within(_HOUR)] | None = Field(
        default=None,
        description="The longest time between two drills. One that is late by a fourth of it more is missed.",
    )
    approval: Approval | None = Field(
        default=None, description="The number of the decision that set these objectives, for reports."
    )
