"""The options that say where to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.postgres.connect import Source
    from backupd.wiring import Wiring

_RESTORED = "_restored"
"""Beside the databases themselves, a region's have to be called otherwise."""


@dataclass(frozen=True, slots=True)
class Where:
    """At most one of `target`, `files` and `scratch` is given."""

    target: str | None
    passfile: Path | None
    files: Path | None
    scratch: Path | None
    keep: bool
    suffix: str | None

    def check(self, *, paper: bool, whole: bool) -> None:
        """Raises UsageError for options that do not fit; `whole` is a region, `paper` what does not go anywhere."""
        given = [place for place in (self.target, self.files, self.scratch) if place is not None]
        if len(given) > 1:
            raise UsageError(
                "a restore goes to one place", hint="Give only one of --target, --target-dir and --scratch."
            )
        if not given and not paper:
            raise UsageError(
                "a restore needs a --target",
                hint="Or --target-dir for plain files, or --scratch for a server of its own. --plan needs none: it "
                "only says what would be done.",
            )
        if self.keep and self.scratch is None:
            raise UsageError("--keep goes with --scratch", hint="It leaves the scratch server running.")
        if self.suffix is not None and not whole:
            raise UsageError(
                "--suffix goes without a DATABASE", hint="One database is named in --target, as in dbname=restored."
            )

    def source(self, wiring: Wiring, *, whole: bool) -> tuple[Source, str]:
        """The server, and the name of the new database there where one is meant and given.

        Raises UsageError, ConfigError.
        """
        if self.target is None:
            return wiring.no_server(), ""
        if not whole:
            return wiring.restore_target(self.target, self.passfile)
        source, name = wiring.restore_server(self.target, self.passfile)
        if name not in (None, "postgres"):
            raise UsageError(
                "the target of a region names a database",
                hint="Leave dbname out: they get their own names, with --suffix at the end.",
            )
        return source, ""

    @property
    def ending(self) -> str:
        """What is added to the names of a region's databases."""
        if self.suffix is not None:
            return self.suffix
        return _RESTORED if self.target is not None else ""

    @property
    def told(self) -> str:
        """For people."""
        if self.files is not None:
            return f"files in {self.files}"
        return "a scratch server" if self.scratch is not None else "the target"
