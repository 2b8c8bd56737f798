"""A temporary PostgreSQL server for a drill: made, watched, and removed with all its files, however its maker ends."""
