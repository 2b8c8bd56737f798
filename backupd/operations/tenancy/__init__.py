"""The mapping of a database's tables to tenants, for people: what is mapped, what is left to decide, and counts."""
