"""A restore on paper: what it would do, and how long that should take."""
