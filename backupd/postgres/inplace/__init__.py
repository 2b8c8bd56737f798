"""One tenant's rows in a running database: staged, compared, checked for conflicts, and written."""
