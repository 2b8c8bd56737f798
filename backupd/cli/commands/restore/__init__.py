"""`restore`: a database or a region anew, or one tenant in place."""

from backupd.cli.commands.restore.command import add

__all__ = ["add"]
