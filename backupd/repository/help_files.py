"""The files that let people read a store without backupd: `RECOVER.md` and the script `recover`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def guide() -> bytes:
    """Return the text of `RECOVER.md`."""
    return resources.files(__package__).joinpath("RECOVER.md").read_bytes()


def script() -> bytes:
    """Return the stand-alone program `recover`, as it stands in `scripts/`."""
    packaged = resources.files(__package__).joinpath("recover")
    if packaged.is_file():
        return packaged.read_bytes()
    # A checkout, or an editable install of one: the wheel has its copy from here (pyproject.toml, force-include).
    return Path(__file__).parents[2].joinpath("scripts", "recover").read_bytes()
