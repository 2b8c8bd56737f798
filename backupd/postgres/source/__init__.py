"""Reading a database: what it holds, whether all of it can be read, and one exported snapshot of it."""
