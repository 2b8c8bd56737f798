"""A dead man's switch: somebody elsewhere is asked for a page as long as all is well, and calls when nobody does."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from typing import Final

_SCHEMES: Final = ("https://", "http://")
_AGENT: Final = {"User-Agent": "backupd"}


@dataclass(frozen=True, slots=True)
class HeartbeatUrl:
    """One URL; whoever knows it can keep the other side quiet, so it is a secret."""

    name: str
    """Where the configuration names it."""
    url: str = field(repr=False)

    def beat(self, seconds: float) -> bool:
        """Whether the other side said that it heard. Raises OSError, ValueError."""
        request = urllib.request.Request(self.url, headers=_AGENT)  # noqa: S310 - `is_known` looked at the scheme
        with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - the same
            return bool(200 <= answer.status < 300)


def is_known(url: str) -> bool:
    """Whether it is a URL that can be asked for."""
    return url.startswith(_SCHEMES)
