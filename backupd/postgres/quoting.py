"""Names and values as SQL text, without a connection."""

from __future__ import annotations


def identifier(name: str) -> str:
    """A name in double quotes; always, so that no list of key words is needed."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    return f"{identifier(schema)}.{identifier(name)}"


def literal(value: str) -> str:
    """A string constant that reads the same whatever standard_conforming_strings says."""
    text = value.replace("'", "''")
    return "E'" + text.replace("\\", "\\\\") + "'" if "\\" in value else f"'{text}'"
