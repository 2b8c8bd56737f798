"""Mapping a database's tables to tenants: rules, keys and names in, routes and proposals out. Pure."""
