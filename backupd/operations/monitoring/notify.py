"""Messages to people. The one user of apprise.

Its URLs hold passwords: they are never logged, and targets are told apart by where the configuration names them.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import apprise

if TYPE_CHECKING:
    from backupd.operations.monitoring.messages import Message

_TYPES: Final = {
    "error": apprise.NotifyType.FAILURE,
    "warning": apprise.NotifyType.WARNING,
    "over": apprise.NotifyType.SUCCESS,
}
with warnings.catch_warnings():
    # Loads its services, once and not in a thread. What they import is their affair.
    warnings.simplefilter("ignore")
    apprise.Apprise.instantiate("json://localhost")
_log = logging.getLogger("apprise")
# It names hosts, and Python prints the warnings of who has no handler.
_log.addHandler(logging.NullHandler())
_log.propagate = False


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """One URL."""

    name: str
    """Where the configuration names it."""
    url: str = field(repr=False)

    def send(self, message: Message) -> bool:
        """Whether it took the message. May take long, and raise anything."""
        service = apprise.Apprise()
        return bool(service.add(self.url)) and bool(
            service.notify(
                body=message.body,
                title=message.title,
                notify_type=_TYPES[message.severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )


def is_known(url: str) -> bool:
    """Whether it is a URL that a message can be sent to."""
    return bool(apprise.Apprise().add(url))
