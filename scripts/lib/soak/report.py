"""Output of the soak test: a line for each day, and the figures at its end."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from lib.soak.run import Soak


def figures_of(soak: Soak | None, days: int) -> dict[str, Any]:
    """Count jobs by their outcome, what befell the nodes, and what was checked; empty when the run never began."""
    if soak is None:
        return {}
    jobs = {f"{kind} {outcome}": count for (kind, outcome), count in sorted(soak.jobs.items())}
    return {
        "weeks": round(days / 7, 1),
        "jobs": jobs,
        "acts": dict(sorted(soak.acts.items())),
        **soak.footprints.figures(),
        **soak.checks,
    }


def print_result(options: argparse.Namespace, figures: dict[str, Any], failed_jobs: list[str], replay: str) -> None:
    """Print the figures and, when a promise was broken, which one and the command that repeats the run."""
    if options.json:
        print(json.dumps(figures))
        return
    print(json.dumps(figures, indent=1))
    if options.verbose:
        print("\n".join(failed_jobs))
    if figures["broken"]:
        print(f"BROKEN:\n{figures['broken']}\nagain with: {replay}", file=sys.stderr)


def print_line(options: argparse.Namespace, line: str) -> None:
    """Print one line at once; to standard error when standard output is for JSON."""
    print(line, file=sys.stderr if options.json else sys.stdout, flush=True)
