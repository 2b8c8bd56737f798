"""What `--matrix` measures: each scenario makes its samples, and notes the figures of which the table is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lib.bench import daily_purge, round_trips, unread
from lib.bench.contenders import Backupd, Before, Contender, Slow, chosen
from lib.bench.figures import Log, of_cost
from lib.bench.peers import Borg, CopyAlone, Dump, Pipe, Restic, Zstd
from lib.bench.rounds import PHASES, Rounds
from lib.bench.stage import RESTORED, Stage
from lib.sample_databases import fill_small_tenants

STARTS = 3
"""So many times a round the short commands are started."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a matrix is measured."""

    rounds: int
    scale: float
    """Of all sizes, tenants and days: 1 is what the targets are for, less tries the bench itself."""
    beside: Path | None
    """A checkout of another build."""

    def scaled(self, count: int, least: int = 1) -> int:
        return max(least, round(count * self.scale))


def main(stage: Stage, log: Log, wanted: Wanted) -> None:
    """700 MB of 500 tenants beside everybody, and a tenth of it."""
    size, tenants = wanted.scaled(700_000_000), wanted.scaled(500, 5)
    with stage.tracker("main", size, tenants, log) as ground, stage.tracker("tenth", size // 10, tenants, log) as tenth:
        everybody = chosen(ground, (Backupd, Pipe, Dump, Restic, Borg), stage.served_by, log)
        once = [Backupd(tenth), *chosen(ground, (Zstd, CopyAlone, Slow), stage.served_by, log)]
        rounds = Rounds(ground, everybody, PHASES, log)
        for number in range(1, wanted.rounds + 1):
            for contender in once:
                _first(contender, number, log)
            rounds.round(number)
            _one_tenant(next(one for one in everybody if isinstance(one, Backupd)), number, log)


def many(stage: Stage, log: Log, wanted: Wanted) -> None:
    """100 MB of 10,000 tenants beside the pipe, pg_dump and pg_restore."""
    with stage.tracker("many", wanted.scaled(100_000_000), wanted.scaled(10_000, 5), log) as ground:
        rounds = Rounds(ground, chosen(ground, (Backupd, Pipe, Dump), stage.served_by, log), PHASES, log)
        for number in range(1, wanted.rounds + 1):
            rounds.round(number)


def rows(stage: Stage, log: Log, wanted: Wanted) -> None:
    """50,000 tenants of one small row, beside another build where there is one."""
    tenants = wanted.scaled(50_000, 5)
    with stage.made("rows", tenants, lambda connection: fill_small_tenants(connection, tenants), log) as ground:
        contenders: list[Contender] = [Backupd(ground)]
        if wanted.beside is None:
            log.left_out[Before.name] = "no other build was given (--beside CHECKOUT)"
        else:
            contenders.append(Before(ground, wanted.beside))
        for number in range(1, wanted.rounds + 1):
            for contender in contenders:
                _first(contender, number, log)


def spread(stage: Stage, log: Log, wanted: Wanted) -> None:
    """700 MB of 10,000 tenants, and of 10."""
    size, tenants = wanted.scaled(700_000_000), wanted.scaled(10_000, 20)
    with stage.tracker("few", size, 10, log) as few, stage.tracker("spread", size, tenants, log) as spread_out:
        for number in range(1, wanted.rounds + 1):
            for ground in (few, spread_out):
                _first(Backupd(ground), number, log)


def big(stage: Stage, log: Log, wanted: Wanted) -> None:
    """5 GB of 5 and of 5,000 tenants, one round each, for the memory alone."""
    for sample, tenants in (("big-5", 5), ("big-5000", wanted.scaled(5_000, 5))):
        with stage.tracker(sample, wanted.scaled(5_000_000_000), tenants, log) as ground:
            alone = Rounds(ground, [backupd := Backupd(ground)], ("first", "second"), log)
            alone.round(1)
            alone.restore(backupd, 1)


def start(stage: Stage, log: Log, wanted: Wanted) -> None:
    """What `--version` and `status` cost, on a region with two snapshots."""
    with stage.tracker("start", wanted.scaled(10_000_000, 1_000_000), 50, log) as ground:
        backupd = Backupd(ground)
        _first(backupd, 1, log)
        log.add(backupd.backup("second", 1))
        for number in range(1, wanted.rounds * STARTS + 1):
            for command in ("--version", "status"):
                log.add(of_cost(ground.sample, backupd.name, command, number, backupd.run(command)))


SCENARIOS: dict[str, Callable[[Stage, Log, Wanted], None]] = {
    "main": main,
    "many": many,
    "rows": rows,
    "spread": spread,
    "big": big,
    "far": lambda stage, log, wanted: round_trips.measure(
        stage, log, wanted.rounds, wanted.scaled(256_000_000, 4_000_000)
    ),
    "days": lambda stage, log, wanted: daily_purge.measure(
        stage, log, wanted.scaled(100_000_000), wanted.scaled(10_000, 20), wanted.scaled(30, 2)
    ),
    "unread": lambda stage, log, wanted: unread.measure(
        stage, log, wanted.rounds, wanted.scaled(2_000_000_000), wanted.scaled(500, 5), wanted.scaled(50, 2)
    ),
    "start": start,
}
"""By name, in the order in which they are measured."""


def _first(contender: Contender, number: int, log: Log) -> None:
    contender.fresh()
    contender.ground.settle()
    log.add(contender.backup("first", number))


def _one_tenant(backupd: Backupd, number: int, log: Log) -> None:
    """Restore the tenant that is in the middle by its rows."""
    ground = backupd.ground
    with ground.connect() as connection:
        found = connection.execute(
            "SELECT tenant.id FROM tenant LEFT JOIN issue ON issue.tenant_id = tenant.id "
            "GROUP BY tenant.id ORDER BY count(*), tenant.id"
        ).fetchall()
    ((tenant,),) = found[len(found) // 2 : len(found) // 2 + 1]
    ground.settle()
    cost = backupd.restore(RESTORED, "--tenant", str(tenant), "--without-broken-keys")
    log.add(of_cost(ground.sample, backupd.name, "tenant", number, cost))
    ground.region.server.drop_database(RESTORED)
