"""Decide which extents of tables a backup need not read, by PostgreSQL's WAL summaries. Pure."""
