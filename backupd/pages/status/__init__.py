"""How regions stand, as a page that the daemon rewrites."""

from backupd.pages.status.page import StatusPage, render_status

__all__ = ["StatusPage", "render_status"]
