"""Facts that `backupd doctor` observes on this machine, and the diagnoses that are made from them.

Neither holds a secret, a row or a tenant's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from backupd.model.status import Change, SpaceFacts


class DiagnosisResult(StrEnum):
    """The results of an examination, worst first. Only `well` is a pass."""

    FAULT = "fault"
    """Something does not work, or a promise cannot be kept."""
    ADVICE = "advice"
    """It works, and could be better."""
    UNSEEN = "unseen"
    """Nobody looked, and the message says why."""
    WELL = "well"


class DiagnosisArea(StrEnum):
    """The areas of an examination, in the order in which they are printed."""

    CONFIGURATION = "configuration"
    CREDENTIALS = "credentials"
    STATE = "state"
    PROGRAMS = "programs"
    CLOCKS = "clocks"
    DATABASES = "databases"
    STORES = "stores"
    TIMETABLES = "timetables"
    NOTIFICATIONS = "notifications"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list: what was looked at, what came out, and what to do about it."""

    area: DiagnosisArea
    place: str
    """A key of the configuration, a folder, `region/database`, `region on store`, or a unit."""
    result: DiagnosisResult
    message: str
    hint: str = ""
    code: str = ""
    """A stable word, where the exit status depends on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """A folder that this machine keeps, as the user who looks can use it."""

    key: str
    """The key of the configuration that names it."""
    path: str
    exists: bool = True
    usable: bool = True
    """Whether this user may add files to it, or may make it where it does not exist."""
    user: str = ""
    """The user who looked."""
    owner: str = ""
    """The user whom the folder belongs to."""
    strangers: int = 0
    """Files and folders in it that belong to somebody else than its owner."""
    free: int | None = None
    wanted: int = 0
    """Bytes that the configuration lets it grow to; 0 where it sets no size."""


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """A file in the folder of a unit's credentials."""

    user: int
    mode: int
    """The permission bits alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFacts:
    """The folder that systemd hands to one unit, and what the configuration asks of that unit."""

    unit: str
    folder: str
    files: Mapping[str, CredentialFile]
    needed: Mapping[str, str]
    """Names that the unit's work reads, each with the key of the configuration that names it."""
    optional: frozenset[str] = frozenset()
    """Names that the unit uses where it has them."""
    forbidden: Mapping[str, str] = field(default_factory=dict)
    """Names that belong to another unit, each with what a thief of this unit could do with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A database server and our role in it."""

    offset: timedelta
    """How far the server's clock is ahead of this machine's."""
    version: int
    """The version as `server_version_num` has it."""
    encrypted: bool = True
    local: bool = False
    """Whether the connection leaves this machine neither by name nor by address."""
    valid_until: datetime | None = None
    """When the role's password expires."""
    snapshots_age_out: bool = False
    """Whether `old_snapshot_threshold` lets the server break a long read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLook:
    """One store of a region as one role of this machine sees it."""

    error: tuple[str, str] | None = None
    """Message and hint of what prevented the look."""
    exists: bool = True
    """Whether there is a repository."""
    unnamed_signers: tuple[str, ...] = ()
    unnamed_keepers: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    append_only: bool | None = None
    handing: bool = False
    separate_keeper: bool = False
    snapshots: int = 0
    """The store's own snapshots."""
    space: SpaceFacts | None = None
    offset: timedelta | None = None
    """How far the store's clock is ahead; None when nobody asked."""
