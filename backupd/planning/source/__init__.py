"""Which databases, tables and names are whose. Pure."""
