"""What drills are made of: their identity, their place, and what earlier drills said."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.wiring.reporting import Reporting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.config.drills import DrillSection
    from backupd.config.text.secrets import FileRef
    from backupd.model.stored.report import Report
    from backupd.operations.drill import Assertion, DrillWorld, Place
    from backupd.postgres.connect import Source
    from backupd.trace import Trace

_LONGEST_PASSPHRASE = 4096


@dataclass(frozen=True, slots=True)
class Drilling(Reporting):
    """And of what drills."""

    def drill_section(self) -> DrillSection:
        """How this machine drills.

        Raises ConfigError when it does not.
        """
        section = self.config.drill
        if section is None:
            raise ConfigError(
                "no drill runs on this machine", hint="Run this where the configuration has a [drill] section."
            )
        return section

    def drill_world(self, region: RegionName, store: str, trace: Trace, past: Sequence[Report]) -> DrillWorld:
        """A drill of the region from one of its stores, after those in `past`, oldest first.

        Raises ConfigError for files that are not there, KeyRefusedError for a wrong passphrase.
        """
        from backupd.operations.drill import DrillWorld

        section = self.drill_section()
        escrow = section.escrow_identity, section.escrow_passphrase_file
        return DrillWorld(
            identity=self._opened(section.identity, section.passphrase_file),
            place=self.drill_place(),
            clock=self.clock,
            trace=trace,
            random=os.urandom,
            machine=self.config.node.name,
            store=store,
            tenancies={label: self.tenancy(region, label) for label in self.databases(region)},
            objectives=self.objectives(region),
            assertions=self._assertions(region),
            escrow=self._opened(escrow[0], escrow[1]) if escrow[0] is not None and escrow[1] is not None else None,
            production=tuple(self.source(name, label) for name in self.regions([]) for label in self.databases(name)),
            past=tuple(past),
            own_ledger=self.known_ledger(region),
            location=self.config.node.location,
            tags=self.tags(region) if self.config.node.tenant_key_file is not None else None,
        )

    def drill_place(self) -> Place:
        """Where drills' servers run."""
        from backupd.operations.drill import Place

        section = self.drill_section()
        return Place(
            parent=section.scratch_dir or self.config.node.spool_dir / "drill",
            folders=self.config.node.client_dirs,
            user=section.user,
            size=section.max_size,
            restore_limit=section.restore_limit,
            check_limit=section.check_limit,
            memory=section.memory,
            target=self._target(section),
        )

    def _target(self, section: DrillSection) -> Source | None:
        from backupd.postgres.connect import Source

        if section.target is None:
            return None
        return Source(
            section.target,
            passfile=section.target_passfile.resolve(self.environ) if section.target_passfile else None,
            servicefile=section.target_servicefile.resolve(self.environ) if section.target_servicefile else None,
            client_folders=self.config.node.client_dirs,
        )

    @staticmethod
    def new_seed() -> str:
        """For the turns of the random rule."""
        return secrets.token_hex(8)

    def _assertions(self, region: RegionName) -> tuple[Assertion, ...]:
        from backupd.operations.drill import Assertion

        return tuple(
            Assertion(one.name, one.database, one.sql, exact=one.exact, least=one.minimum)
            for one in self.config.regions[region].assertions
        )

    def _opened(self, identity: FileRef, passphrase: FileRef) -> bytes:
        from backupd.seal.keys.identity import read_identity

        path = identity.resolve(self.environ)
        return read_identity(path, _first_line(passphrase.resolve(self.environ))).secret


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.readline(_LONGEST_PASSPHRASE).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f'the passphrase file "{path}" cannot be read') from None
    if not text:
        raise ConfigError(f'the first line of the passphrase file "{path}" is empty')
    return text
