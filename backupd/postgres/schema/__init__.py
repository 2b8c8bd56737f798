"""Schema, roles and large objects: pg_dump's output, taken apart by segment and put together again."""
