"""`restore`: into a new database, or one tenant in place."""

from backupd.cli.commands.restore.command import add

__all__ = ["add"]
