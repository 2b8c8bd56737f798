"""A PostgreSQL server of one's own for an hour: made, watched, and gone with all its files, however its maker ends."""
