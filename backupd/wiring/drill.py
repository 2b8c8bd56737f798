"""The parts of drills and of their reports: the identity, the place, earlier drills, objectives, and the desk."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.config.faults import Finding
from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.wiring.context import (
    Context,
    configured_recipients,
    known_ledger_copy,
    open_repositories,
    region_folder,
    source_of,
    tenancy_of,
    tenant_tags,
)
from backupd.wiring.keeper import book_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.config.policy import DrillSection
    from backupd.config.secrets import FileRef
    from backupd.model.report import Objectives, Report
    from backupd.operations.drill import Assertion, DrillEnvironment, DrillPlace
    from backupd.operations.reports import ReportDesk
    from backupd.planning.drill_reports import DrillTimetable
    from backupd.postgres.connect import Source
    from backupd.seal.documents import Signer
    from backupd.trace import Trace

_LONGEST_PASSPHRASE = 4096
"""Bytes of a passphrase file's first line that are read."""


def drill_section(context: Context) -> DrillSection:
    """Return the configuration's section on drills.

    Raises ConfigError when no drill runs on this machine.
    """
    section = context.config.drill
    if section is None:
        raise ConfigError(
            "no drill runs on this machine",
            hint="Run this where the configuration has a [drill] section (`backupd manual drills`, *Set it up*).",
        )
    return section


def drill_world(
    context: Context, region: RegionName, store: str, trace: Trace, past: Sequence[Report]
) -> DrillEnvironment:
    """Return the surroundings of a drill of the region from one store; `past` holds earlier reports, oldest first.

    Raises ConfigError for files that are not there, KeyRefusedError for a wrong passphrase.
    """
    from backupd.operations.drill import DrillEnvironment

    section, node = drill_section(context), context.config.node
    escrow = section.escrow_identity, section.escrow_passphrase_file
    return DrillEnvironment(
        identity=_open_identity(context, section.identity, section.passphrase_file),
        place=_drill_place(context),
        clock=context.clock,
        trace=trace,
        random=os.urandom,
        machine=node.name,
        store=store,
        tenancies={label: tenancy_of(context, region, label) for label in context.databases(region)},
        objectives=objectives_of(context, region),
        assertions=_assertions(context, region),
        escrow=_open_identity(context, escrow[0], escrow[1])
        if escrow[0] is not None and escrow[1] is not None
        else None,
        production=tuple(
            source_of(context, name, label) for name in context.regions([]) for label in context.databases(name)
        ),
        past=tuple(past),
        own_ledger=known_ledger_copy(context, region),
        location=node.location,
        tags=tenant_tags(context, region) if node.tenant_key_file is not None else None,
    )


_NO_RECIPIENT = (
    "After recipients were exchanged, name the identity of the one that took its place. If this one never was among "
    "them, add its recipient: `backupd key rotate` has it open earlier backups, too."
)


def drill_advice(context: Context) -> Iterator[Finding]:
    """Yield each identity of drills that no backup is sealed to from now on, as after recipients were exchanged."""
    from backupd.seal.keyfiles import read_recipient

    section = context.config.drill
    named = {} if section is None else {"identity": section.identity, "escrow_identity": section.escrow_identity}
    for key, reference in named.items():
        if reference is None or not reference.is_given(context.environ):
            continue
        try:
            own = read_recipient(reference.resolve(context.environ)).public
            sealed_to = {one.public for one in configured_recipients(context)}
        except ConfigError:
            continue  # what cannot be read is a fault of its own
        if own not in sealed_to:
            yield (
                ("drill", key),
                "opens nothing that is backed up from now on: it is none of the recipients",
                _NO_RECIPIENT,
            )


def new_seed() -> str:
    """Draw a seed for the random choice of a snapshot: 16 hex digits."""
    return secrets.token_hex(8)


def objectives_of(context: Context, region: RegionName) -> Objectives:
    """Return the objectives of the region, as reports repeat them."""
    from backupd.model.report import Objectives

    section = context.config.regions[region].objectives
    return Objectives(
        rpo=_seconds(section.rpo),
        rto=_seconds(section.rto),
        drill_every=_seconds(section.drill_every),
        approval=section.approval,
    )


def drill_timetable(context: Context, region: RegionName, begins: datetime | None) -> DrillTimetable:
    """Return when drills are due; `begins` is when the repository was made."""
    from backupd.planning.drill_reports import DrillTimetable

    return DrillTimetable(begins, context.config.regions[region].objectives.drill_every)


@contextmanager
def open_report_desk(context: Context, region: RegionName, signer: Signer, trace: Trace) -> Iterator[ReportDesk]:
    """Open the desk that publishes reports of the region's drills; `signer` is one of its keepers' keys.

    Raises ConfigError when the state folder cannot be made.
    """
    from backupd.operations.phases import Phases
    from backupd.operations.reports import ReportDesk
    from backupd.operations.roll_call import roll_call
    from backupd.store.directory import DirectoryStore

    folder = region_folder(context, region, "reports")
    with open_repositories(context.telling(trace), region) as repositories:
        away = roll_call(repositories, Phases(context.clock, trace, region))
        book = book_over(context.telling(trace), region, repositories, away, signer)
        book.sync(away=away)
        yield ReportDesk(book, repositories, signer, DirectoryStore(folder))


def _drill_place(context: Context) -> DrillPlace:
    """Return the place where the servers of drills run."""
    from backupd.operations.drill import DrillPlace

    section, node = drill_section(context), context.config.node
    return DrillPlace(
        parent=section.scratch_dir or node.spool_dir / "drill",
        folders=node.client_dirs,
        user=section.user,
        size=section.max_size,
        restore_limit=section.restore_limit,
        check_limit=section.check_limit,
        memory=section.memory,
        preload=section.preload,
        target=_drill_target(context, section),
    )


def _drill_target(context: Context, section: DrillSection) -> Source | None:
    from backupd.postgres.connect import Source

    if section.target is None:
        return None
    return Source(
        section.target,
        passfile=section.target_passfile.resolve(context.environ) if section.target_passfile else None,
        servicefile=section.target_servicefile.resolve(context.environ) if section.target_servicefile else None,
        client_folders=context.config.node.client_dirs,
    )


def _assertions(context: Context, region: RegionName) -> tuple[Assertion, ...]:
    from backupd.operations.drill import Assertion

    return tuple(
        Assertion(one.name, one.database, one.sql, exact=one.exact, least=one.minimum)
        for one in context.config.regions[region].assertions
    )


def _open_identity(context: Context, identity: FileRef, passphrase: FileRef) -> bytes:
    from backupd.seal.keyfiles import read_identity

    path = identity.resolve(context.environ)
    return read_identity(path, _first_line(passphrase.resolve(context.environ))).secret


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            text = file.readline(_LONGEST_PASSPHRASE).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f'the passphrase file "{path}" cannot be read') from None
    if not text:
        raise ConfigError(f'the first line of the passphrase file "{path}" is empty')
    return text


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else math.ceil(span.total_seconds())
