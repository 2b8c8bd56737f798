"""Backups of which little is read: beside pg_dump, one that reads everything, and PostgreSQL's own incremental ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from lib.bench.contenders import CONFIG, Backupd, Contender
from lib.bench.figures import Log, of_cost
from lib.bench.peers import Dump
from lib.bench.stage import RESTORED, Ground, Stage
from lib.servers import SUMMARIZING

SAMPLE = "unread"
MAJOR = 18
EVEN_ROUNDS = 2
"""Rounds of even changes, at most: each of them reads everything twice."""
_TABLES = """
SELECT c.oid::regclass::text, c.relpages, (SELECT quote_ident(a.attname) FROM pg_attribute a
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid = 'text'::regtype ORDER BY a.attnum LIMIT 1)
FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relpages > 20
"""


class Whole(Backupd):
    """The same, that reads everything each time."""

    name = "whole"
    what = 'backupd with incremental = "off"'

    def configure(self, signers: Sequence[str], port: int, name: str = CONFIG) -> None:
        super().configure(signers, port, name)
        path = self.local / name
        path.write_text(path.read_text().replace("\ntenancy = ", '\nincremental = "off"\ntenancy = '))


class BaseBackup(Contender):
    """Physical and of the whole server: files on the same machine, neither sealed nor sent."""

    name = "basebackup"
    what = "pg_basebackup --incremental of the whole server, into a local folder"
    programs = ("pg_basebackup",)
    stored_locally = True

    def command(self) -> list[str]:
        made = sorted(self.local.glob("*-backup"))
        options = ["-U", "postgres", "-c", "fast", "-X", "none", "-D", f"{len(made):04}-backup"]
        return ["pg_basebackup", *options, *(["-i", f"{made[-1]}/backup_manifest"] if made else [])]


def measure(stage: Stage, log: Log, rounds: int, size: int, tenants: int, runs: int) -> None:
    """First backups once; a round is one of nothing and one of recent changes; then even changes, and restores."""
    folder = stage.folder / SAMPLE
    folder.mkdir(mode=0o755)
    with ExitStack() as stack:
        own = Stage(stack, folder, MAJOR, stage.level, SUMMARIZING)
        ground = stack.enter_context(own.tracker(SAMPLE, size, tenants, log))
        ours, whole, dump, physical = Backupd(ground), Whole(ground), Dump(ground), BaseBackup(ground)
        for one in (ours, whole, dump, physical):
            one.fresh()
        _backups("first", 1, (ours, whole, physical), log)
        for number in range(1, rounds + 1):
            _backups("same", number, (ours, dump), log)
            change(ground, _RECENT, 0.2)
            _backups("recent", number, (ours, dump, physical), log)
        whole.backup("again", rounds)  # so that both have sent the same when rows change evenly
        for number in range(1, min(rounds, EVEN_ROUNDS) + 1):
            change(ground, "", 0.01)
            _backups("even", number, (ours, whole), log)
        _restores(ours, log, runs)


def _backups(phase: str, number: int, contenders: Sequence[Contender], log: Log) -> None:
    for one in contenders:
        one.ground.settle()
        log.add(one.backup(phase, number))


_RECENT = "ctid >= format('(%s,0)', {pages} * 19 / 20)::tid AND"


def change(ground: Ground, where: str, share: float, *, analyze: bool = True) -> None:
    """Change this share of the rows in each table, of all of them or of those in its last blocks."""
    with ground.connect() as connection:
        for table, pages, column in connection.execute(_TABLES).fetchall():
            if column:
                condition = f"{where.format(pages=pages)} random() < {share}"
                connection.execute(f"UPDATE {table} SET {column} = {column} || '.' WHERE {condition}".encode())
        connection.execute("VACUUM (ANALYZE)" if analyze else "VACUUM")


def _restores(ours: Backupd, log: Log, runs: int) -> None:
    """Restore after so many backups with a change before each, and after a first one of the same rows."""
    ground = ours.ground
    for _ in range(runs):
        change(ground, _RECENT, 0.01, analyze=False)
        ours.backup("again", 1)
    for phase in ("restore-many", "restore-first"):
        ground.settle()
        log.add(of_cost(ground.sample, ours.name, phase, 1, ours.restore(RESTORED)))
        ground.region.server.drop_database(RESTORED)
        if phase == "restore-many":
            ours.fresh()
            ours.backup("again", 1)
