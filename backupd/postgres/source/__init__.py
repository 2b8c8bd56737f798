"""Reading a database: its inventory, the checks before a backup, and one exported snapshot of it."""
