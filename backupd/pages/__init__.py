"""Pages to read and print: each is one HTML file that fetches nothing from elsewhere."""

from backupd.pages.attestation import CheckedSignature, render_attestation
from backupd.pages.drills import Drill, PeriodPage, RegionPart, render_period, render_report

__all__ = [
    "CheckedSignature",
    "Drill",
    "PeriodPage",
    "RegionPart",
    "render_attestation",
    "render_period",
    "render_report",
]
