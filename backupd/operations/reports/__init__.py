"""Reports of restore drills: published in a chain, read from stores or a folder, exported."""

from backupd.operations.reports.export import ReportExport, as_object, export_reports
from backupd.operations.reports.publish import Published, ReportDesk, publish_report, publish_waiting
from backupd.operations.reports.read import Gathered, Part, ReportFault, gather, gather_folder, occasions, standing

__all__ = [
    "Gathered",
    "Part",
    "Published",
    "ReportDesk",
    "ReportExport",
    "ReportFault",
    "as_object",
    "export_reports",
    "gather",
    "gather_folder",
    "occasions",
    "publish_report",
    "publish_waiting",
    "standing",
]
