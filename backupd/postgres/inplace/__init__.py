"""One tenant's rows in a running database: staged, compared, looked at from all sides, and written."""
