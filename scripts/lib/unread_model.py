"""Take thousands of steps of `doubles.servers.unread_model`, in rounds with a database and a seed of their own."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from doubles.servers import postgres
from doubles.servers.unread_model import UnreadModel
from fix_postgres import quick_folder
from fix_summaries import SUMMARIZING

STRETCH = 60
"""Steps between two chances of a crash."""


def main() -> None:
    """Run the rounds; the first difference ends them, with the round's seed printed before."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--major", type=int, default=18)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "little"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--crashes", action="store_true")
    chosen = parser.parse_args()
    tempfile.tempdir = str(quick_folder())
    with postgres.running(chosen.major, SUMMARIZING) as server:
        for seed in range(chosen.seed, chosen.seed + chosen.rounds):
            print(f"seed {seed}:", flush=True)
            print(f"  {_round(server, seed, chosen.steps, crashes=chosen.crashes)}", flush=True)


def _round(server: postgres.Server, seed: int, steps: int, *, crashes: bool) -> str:
    name = f"model_{seed}"
    server.create_database(name)
    with tempfile.TemporaryDirectory() as folder:
        model = UnreadModel(server, name, Path(folder), seed)
        try:
            model.begin()
            for done in range(0, steps, STRETCH):
                model.steps(min(STRETCH, steps - done))
                if crashes and model.random.random() < 0.25:
                    model.restart(crash=model.random.random() < 0.6)
        finally:
            model.close()
    server.drop_database(name)
    figures = model.figures
    read = ", ".join(f"{count} because {reason}" for reason, count in figures.read.most_common())
    taken = f"{figures.taken} extents taken over and the same, {figures.together} read together"
    return f"{figures.backups} backups, {figures.as_before} that read nothing, {taken}; read: {read}"


if __name__ == "__main__":
    main()
