"""A new database, built and filled."""
