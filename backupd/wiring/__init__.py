"""The one place that knows both worlds: configured sections in, adapters and values for the operations out.

Adapters are imported where they are made: a command loads the libraries of those it uses, and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from backupd.wiring.places import QUICKLY
from backupd.wiring.telling import Telling

__all__ = ["QUICKLY", "Wiring"]


@dataclass(frozen=True, slots=True)
class Wiring(Telling):
    """A configuration at work in this process."""
