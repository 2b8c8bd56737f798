"""The sections about what is told of the work: metrics, messages to people, a page."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from backupd.config.section import Section
from backupd.config.text.fields import AbsolutePath, Duration, Listen, SecretFile, Several, within

_SECOND = timedelta(seconds=1)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)


class MetricsSection(Section):
    """`[metrics]`: figures for Prometheus. Off unless configured: several units may share a file, and no port."""

    listen: Listen | None = None
    """Where the daemon answers, as `address:port`; a port alone is one of loopback. None: nowhere."""
    textfile: AbsolutePath | None = None
    """A file for node_exporter's textfile collector, rewritten whenever something changes. None: none."""


class NotifySection(Section):
    """`[notify]`: whom the daemon tells when something is wrong, and when it is over."""

    urls: Annotated[tuple[SecretFile, ...], Several] = ()
    """Files with an apprise URL a line. They hold passwords: never written here, and never shown."""
    heartbeat: Annotated[tuple[SecretFile, ...], Several] = ()
    """Files with a URL a line that are asked for after each look that found nothing wrong, and only then."""
    remind_every: Annotated[Duration, within(_HOUR, 366 * _DAY)] = _DAY
    """What is still wrong is said again after so long."""
    most_an_hour: Annotated[int, Field(ge=1, le=60)] = 6
    """Messages; what has no room goes into the next one."""
    timeout: Annotated[Duration, within(_SECOND, _HOUR)] = timedelta(seconds=30)
    """How long one target may take."""


class StatusSection(Section):
    """`[status]`: a page of how everything stands."""

    page: AbsolutePath | None = None
    """Rewritten by the daemon whenever something changes. None: none."""
