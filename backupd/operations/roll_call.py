"""The roll call of a region's stores: all are asked at once, so that those that are away are waited for once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from backupd.errors import OUT_OF_REACH, BackupdError, StoreAuthError, StoreGoneError
from backupd.operations.phases import Phases
from backupd.parallel import side_by_side
from backupd.repository.repository import Repository
from backupd.trace import ASKING

Away: TypeAlias = "dict[str, StoreGoneError | StoreAuthError]"
"""The stores that did not answer, or refused us, by name, each with its error."""


def roll_call(repositories: Mapping[str, Repository], phases: Phases) -> Away:
    """Ask each store for its repository, side by side, and return those that are out of reach, in the stores' order.

    Each is waited for as long as it was opened for; meanwhile there is a phase with its name. A repository
    keeps what it answered. Any other error is left to the next reader of that repository, who gets it at once.
    """

    def ask(name: str) -> StoreGoneError | StoreAuthError | None:
        with phases.on(name).phase(ASKING, quiet=True):
            try:
                repositories[name].info()
            except OUT_OF_REACH as error:
                return error
            except BackupdError:
                return None
        return None

    names = list(repositories)
    answers = zip(names, side_by_side(ask, names), strict=True)
    return {name: error for name, error in answers if error is not None}
