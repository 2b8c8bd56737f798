"""Rounds of all contenders in turn, so that whatever slows the machine slows all of them."""

from __future__ import annotations

from collections.abc import Sequence

from lib import sample_databases
from lib.bench.contenders import Contender, Restorer
from lib.bench.figures import Log, of_cost
from lib.bench.peers import PgBackRest, PgRestore
from lib.bench.stage import RESTORED, Ground

PHASES = ("first", "second", "restore")


class Rounds:
    """First backups of everybody, a day's changes, second backups of everybody, restores."""

    def __init__(self, ground: Ground, contenders: Sequence[Contender], phases: Sequence[str], log: Log) -> None:
        self._ground = ground
        self._contenders = contenders
        self._phases = phases
        self._log = log

    def round(self, number: int) -> None:
        contenders = self._in_turn(number)
        for contender in contenders:
            contender.fresh()
            self._back_up(contender, "first", number)
        self.change(number)
        if "second" in self._phases or "restore" in self._phases:
            for contender in contenders:
                self._back_up(contender, "second", number)
        if "restore" in self._phases:
            for contender in contenders:
                if isinstance(contender, Restorer):
                    self.restore(contender, number)
            rival = PgRestore(self._ground)
            rival.fresh()
            self.restore(rival, number)

    def change(self, number: int) -> None:
        with self._ground.connect() as connection:
            sample_databases.change_tracker(connection, seed=number / 100)

    def restore(self, reader: Restorer, number: int) -> None:
        self._ground.settle()
        cost = reader.restore(RESTORED)
        self._log.add(of_cost(self._ground.sample, reader.name, "restore", number, cost))
        self._ground.region.server.drop_database(RESTORED)

    def _in_turn(self, number: int) -> list[Contender]:
        """Another one begins each round; last comes the one for which the server is started anew."""
        turn = number % max(1, len(self._contenders))
        turned = [*self._contenders[turn:], *self._contenders[:turn]]
        return sorted(turned, key=lambda contender: isinstance(contender, PgBackRest))

    def _back_up(self, contender: Contender, phase: str, number: int) -> None:
        self._ground.settle()
        figure = contender.backup(phase, number)
        if phase in self._phases:
            self._log.add(figure)
