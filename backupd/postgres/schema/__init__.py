"""Schema, roles and large objects: pg_dump's output, divided by segment and joined again."""
