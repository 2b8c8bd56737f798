"""Everything of a schema that comes after the rows, in the order in which no two connections wait for each other.

`backupd manual trust`, row *definitions: functions, checks, views, types*,
says who can write this, and what is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backupd.postgres.client_programs import Client
from backupd.postgres.target.pg_restore import SchemaArchive, restore_section


def restore_rest(
    client: Client, schema: SchemaArchive, jobs: int, *, made: Collection[int] = (), keys: Sequence[int] = ()
) -> None:
    """Restore the entries of `post-data` that are not `made`, then these foreign keys, with so many connections.

    What comes last of all is left to the caller. Raises the errors of `restore_section`.
    """
    several = ("--jobs", str(jobs))
    others = [one for one in schema.others if one not in made]
    if not schema.joins:
        restore_section(client, schema, "post-data", *several, only=[*others, *keys])
        return
    restore_section(client, schema, "post-data", *several, only=others)
    # To join an index locks its table and those above, in no common order: of several jobs, some end by a deadlock.
    restore_section(client, schema, "post-data", only=schema.joins)
    if keys:
        restore_section(client, schema, "post-data", *several, only=keys)
