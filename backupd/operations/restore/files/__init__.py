"""A snapshot as plain files that psql loads: the layout that `scripts/recover` writes, too."""
