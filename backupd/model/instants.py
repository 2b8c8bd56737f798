"""Instants as FORMAT.md writes them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(instant: datetime) -> str:
    """FORMAT.md's text of an instant: `YYYY-MM-DDTHH:MM:SS.ffffffZ`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def compact(instant: datetime) -> str:
    """FORMAT.md's text of an instant in a name: `YYYYMMDDTHHMMSSZ`."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def parse_stamp(text: str) -> datetime:
    """The instant a `stamp` names.

    Raises ValueError for any other text.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
