"""Every error backupd raises on purpose: a sentence, a hint, an exit code, and whether trying again can help.

Grammar of messages: lower case, no full stop, names in quotes. The hint is a full sentence that says what to do next.
Neither may quote a row, a secret or a tenant's name.

An interruption is not an error: it stands beside the family, as KeyboardInterrupt stands beside Exception. Code that
catches errors to try again, to collect them or to continue with the next store therefore lets it pass.
"""

from __future__ import annotations

from typing import ClassVar, Final


class EndingError(BaseException):
    """Base of everything that ends a command with a sentence and an exit code; only the command line catches it."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BackupdError(EndingError, Exception):
    """A fault that fits no family below, or one of backupd itself."""


class WorkerLostError(BackupdError):
    """A worker process ended without a word, as when memory runs out; trying again can help."""

    retryable = True


class UsageError(BackupdError):
    """The command line asks for something that does not exist or contradicts itself."""

    exit_code = 2


class ConfigError(BackupdError):
    """The configuration is missing, unreadable or wrong; nothing was done."""

    exit_code = 3


class SourceError(BackupdError):
    """PostgreSQL refused, is busy, went away, or is not set up for a backup."""

    exit_code = 4


class SourceGoneError(SourceError):
    """The connection to PostgreSQL broke or could not be made; trying later can help."""

    retryable = True


class SourceBusyError(SourceError):
    """A lock, a conflict or a limit stood in the way of reading; trying later can help."""

    retryable = True


class BrokenKeysError(SourceError):
    """Foreign keys cannot hold: rows refer to rows that are not there."""


class ExtensionRefusedError(SourceError):
    """A server cannot make an extension: it lacks its files or settings, or makes it in another database only."""


class ProgramKilledError(SourceError):
    """A signal ended a client program, as the kernel's does when memory runs out; trying again can help."""

    retryable = True


class SourceAuthError(SourceError):
    """PostgreSQL does not let us in: password, certificate, or its own rules. Never tried again."""


class UnmappedError(BackupdError):
    """A table, class or tenant value is not covered by the configured tenancy."""

    exit_code = 5


class StoreError(BackupdError):
    """The store refused an operation for good, or is not what it should be."""

    exit_code = 6


class StoreGoneError(StoreError):
    """The connection to the store broke, stalled or could not be made; trying again can help."""

    retryable = True


class StoreAuthError(StoreError):
    """The store's host key is not the pinned one, or it refused our key. Never tried again."""


class StoreFullError(StoreError):
    """The store, or the account's quota, has no room."""


class ObjectMissingError(StoreError):
    """An object that was asked for is not on the store."""


class ObjectExistsError(StoreError):
    """A final name is taken by other content than ours."""


class DamageError(BackupdError):
    """Something on the store is not what a signed record says it is."""

    exit_code = 7


class KeyRefusedError(BackupdError):
    """The identity or passphrase given does not open what it was asked to open."""

    exit_code = 8


class SpoolFullError(BackupdError):
    """The local spool or its disk has no room for even one object."""

    exit_code = 9


class RefusedError(BackupdError):
    """Safe only under conditions that are not met (target not empty, location not allowed, foreign repository)."""

    exit_code = 10


class EverythingPurgedError(RefusedError):
    """A snapshot of which purges left nothing that could be restored."""


class BusyError(BackupdError):
    """Another backupd holds the lock; trying later can help."""

    exit_code = 11
    retryable = True


class InterruptedRunError(EndingError):
    """Stopped by a signal; what was published stays valid, and the next run continues from it."""

    exit_code = 130


OUT_OF_REACH: Final = (StoreGoneError, StoreAuthError)
"""The errors of a store that cannot be asked: what others can do goes on without it, and it is named."""

UNSOUND: Final = (DamageError, RefusedError, ObjectMissingError)
"""Errors which say that one object is wrong: altered, not to be believed, or gone.

They do not mean that nobody could look at the object. Code that reads many objects records them as findings and
continues with the next object.
"""

EXIT_CODES: dict[int, str] = {
    0: "success, verified",
    **{
        family.exit_code: (family.__doc__ or "").split("\n")[0].rstrip(".")
        for family in (
            BackupdError,
            UsageError,
            ConfigError,
            SourceError,
            UnmappedError,
            StoreError,
            DamageError,
            KeyRefusedError,
            SpoolFullError,
            RefusedError,
            BusyError,
            InterruptedRunError,
        )
    },
}
