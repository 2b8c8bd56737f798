"""backupd: sealed, per-tenant backups of PostgreSQL, with proof."""

__version__ = "0.1.0"
