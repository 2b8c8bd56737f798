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

    listen: Listen | None = Field(
        default=None,
        description='The address and port where the daemon answers Prometheus, as `"127.0.0.1:9840"`. A port '
        "alone is on loopback. Without it, the daemon listens nowhere.",
    )
    textfile: AbsolutePath | None = Field(
        default=None,
        description="A file for the textfile collector of node_exporter, rewritten whenever something changes.",
    )


class NotifySection(Section):
    """`[notify]`: whom the daemon tells when something is wrong, and when it is over."""

    urls: Annotated[tuple[SecretFile, ...], Several] = Field(
        default=(),
        description="Files with an [apprise](https://github.com/caronc/apprise/wiki) URL a line: who gets "
        "messages when something is wrong, and when it is over. They hold passwords, so they are "
        "never shown.",
    )
    heartbeat: Annotated[tuple[SecretFile, ...], Several] = Field(
        default=(),
        description="Files with a URL a line that is requested after each look that found nothing wrong, and "
        "only then.",
    )
    remind_every: Annotated[Duration, within(_HOUR, 366 * _DAY)] = Field(
        default=_DAY, description="What is still wrong is reported again after this long."
    )
    most_an_hour: Annotated[int, Field(ge=1, le=60)] = Field(
        default=6, description="How many messages are sent in an hour at most. What has no room goes into the next one."
    )
    timeout: Annotated[Duration, within(_SECOND, _HOUR)] = Field(
        default=timedelta(seconds=30), description="How long one target of a message may take."
    )


class StatusSection(Section):
    """`[status]`: a page of how everything stands."""

    page: AbsolutePath | None = Field(
        default=None,
        description="The file of a page that shows how everything stands, rewritten by the daemon whenever "
        "something changes.",
    )
