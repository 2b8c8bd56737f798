"""The places where monitoring can be read: the metrics endpoint, the textfile, the status page, alarms in the log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from backupd.atomic_file import write_whole
from backupd.model.status import Alarm, AlarmSeverity, RegionFacts
from backupd.operations.monitoring.delivery import MonitorLog, Settings, TroubleLog
from backupd.operations.monitoring.metrics import Endpoint, Metrics
from backupd.pages.status import StatusPage, render_status

_PAGE_STALE_AFTER: Final = timedelta(minutes=5)
_PAGE_MODE, _TEXTFILE_MODE = 0o640, 0o644


class MetricsServer:
    """The metrics endpoint at the configured address, which a reload may change."""

    def __init__(self, metrics: Metrics, troubles: TroubleLog) -> None:
        self._metrics = metrics
        self._troubles = troubles
        self._endpoint: Endpoint | None = None

    def listen(self, address: str | None) -> None:
        """Answer at this address from now on, or nowhere; an address that cannot be had is a trouble."""
        if address == (self._endpoint.address if self._endpoint else None):
            return
        self.close()
        if address is not None:
            try:
                self._endpoint = Endpoint(self._metrics, address)
            except OSError as error:
                self._troubles.set("metrics.listen", f"cannot be had ({error.strerror})")

    def close(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None


class StatusFiles:
    """The status page and the metrics' textfile, where the configuration asks for them."""

    def __init__(self, metrics: Metrics, troubles: TroubleLog) -> None:
        self._metrics = metrics
        self._troubles = troubles

    def write(
        self, settings: Settings, regions: Iterable[RegionFacts], alarms: tuple[Alarm, ...], now: datetime
    ) -> None:
        """Write both files, each in one step; one that cannot be written is a trouble."""
        if settings.page is not None:
            page = StatusPage(
                made=now,
                machine=settings.machine,
                regions=tuple(regions),
                alarms=alarms,
                troubles=self._troubles.lines,
                stale_after=_PAGE_STALE_AFTER,
            )
            self._write("status.page", settings.page, render_status(page).encode(), _PAGE_MODE)
        if settings.textfile is not None:
            self._write("metrics.textfile", settings.textfile, self._metrics.text(), _TEXTFILE_MODE)

    def _write(self, name: str, path: Path, content: bytes, mode: int) -> None:
        self._troubles.attempt(name, lambda: write_whole(path, content, mode))


def log_alarm_changes(log: MonitorLog, before: Sequence[Alarm], now: Sequence[Alarm]) -> None:
    """Write one line for each alarm that is new, and one for each that is over."""
    known, current = {alarm.key for alarm in before}, {alarm.key for alarm in now}
    for alarm in now:
        if alarm.key not in known:
            level = "error" if alarm.severity is AlarmSeverity.ERROR else "warning"
            log.write(level, event="alarm", **_alarm_fields(alarm), message=alarm.message)
    for alarm in before:
        if alarm.key not in current:
            log.write("info", event="alarm-over", **_alarm_fields(alarm))


def _alarm_fields(alarm: Alarm) -> dict[str, str]:
    return {"code": alarm.code.value, "region": alarm.region, "subject": alarm.subject}
