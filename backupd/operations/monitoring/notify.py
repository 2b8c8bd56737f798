"""Messages to people through apprise, of which this module is the only user.

The URLs of apprise hold passwords: they are never logged, and a target is named by its place in the configuration.
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
    "test": apprise.NotifyType.INFO,
}
with warnings.catch_warnings():
    # This loads the services of apprise once, and not in a thread. Warnings of what they import are not ours.
    warnings.simplefilter("ignore")
    apprise.Apprise.instantiate("json://localhost")
_log = logging.getLogger("apprise")
# Its warnings name hosts, and Python prints the warnings of a logger that has no handler.
_log.addHandler(logging.NullHandler())
_log.propagate = False


@dataclass(frozen=True, slots=True)
class NotifyTarget:
    """One receiver of messages, by its URL."""

    name: str
    """The place in the configuration that names it."""
    url: str = field(repr=False)

    def send(self, message: Message) -> bool:
        """Send the message, and say whether the receiver took it. May take long, and raise anything."""
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
    """Say whether a text is a URL that messages can be sent to."""
    return bool(apprise.Apprise().add(url))
