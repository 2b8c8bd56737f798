"""The checks of a drill, each a question that a `Check` answers without a name, a row or a message of PostgreSQL's.

A check that finds a fault fails; an error that keeps it from looking is raised, and the check becomes an `error`.
"""
