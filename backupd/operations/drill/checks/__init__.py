"""One short module per question a drill asks; each answers with a `Check`, without a name, a row or PostgreSQL's words.

A check that finds a fault fails; what keeps it from looking is raised, and becomes an `error`.
"""
