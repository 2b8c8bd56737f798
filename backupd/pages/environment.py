"""The environment of templates, and how pages write instants, durations and numbers.

Everything that is put into a page is escaped, and everything that a template asks for must be there.
"""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import jinja2

from backupd.model.text import human_duration


@cache
def environment() -> jinja2.Environment:
    """Return the environment of all templates, made once."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("backupd.pages", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[],
    )


def readable(stamp: str) -> str:
    """Write a stamp for people: `2030-01-31 13:45:10 UTC`."""
    return f"{stamp[:10]} {stamp[11:19]} UTC"


def spell_seconds(seconds: float) -> str:
    """Write a duration shorter than `human_duration` does where it is a whole number of seconds, minutes or hours."""
    if seconds >= 60 and seconds % 3600 == 0 and seconds < 172800:
        return f"{seconds / 3600:.0f} h"
    if seconds >= 60 and seconds % 60 == 0 and seconds < 3600:
        return f"{seconds / 60:.0f} min"
    if seconds == int(seconds) and seconds < 60:
        return f"{seconds:.0f} s"
    return human_duration(timedelta(seconds=seconds))


def spell_count(count: float) -> str:
    """Write a number with up to three digits: `950`, `12.5 k`, `3.1 M`."""
    for unit in ("", " k", " M"):
        if count < 999.5:
            return f"{count:.0f}{unit}" if count == int(count) or count >= 99.95 else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f} G"
