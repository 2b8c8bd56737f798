"""Reports of restore drills: published in a chain, gathered from stores or a folder, exported."""

from backupd.operations.reports.exporting import ReportExport, as_object, export_reports
from backupd.operations.reports.publishing import Published, ReportDesk, publish_report, publish_waiting
from backupd.operations.reports.reading import Gathered, StoreFault, gather, gather_folder
from backupd.operations.reports.telling import Part, occasions, standing

__all__ = [
    "Gathered",
    "Part",
    "Published",
    "ReportDesk",
    "ReportExport",
    "StoreFault",
    "as_object",
    "export_reports",
    "gather",
    "gather_folder",
    "occasions",
    "publish_report",
    "publish_waiting",
    "standing",
]
