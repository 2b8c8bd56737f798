"""Reports of restore drills: published in a chain, gathered from stores or a folder, exported."""

from backupd.operations.reports.publishing import Desk, Published, publish_report, publish_waiting
from backupd.operations.reports.reading import Gathered, StoreFault, gather, gather_folder

__all__ = [
    "Desk",
    "Gathered",
    "Published",
    "StoreFault",
    "gather",
    "gather_folder",
    "publish_report",
    "publish_waiting",
]
