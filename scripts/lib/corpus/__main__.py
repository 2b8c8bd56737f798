"""Real applications' databases: mapped, backed up, restored, drilled, damaged, purged of a tenant, and compared."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from doubles.servers import postgres

from lib.console import Voice, thousands
from lib.corpus.recipe import CorpusError, install, known, load, recipe_of
from lib.corpus.trial import Result, Trial
from lib.servers import start_region

HEADINGS = (
    "application", "tables", "rows", "lines", "by keys", "pasted", "decided", "wrong", "restore", "drill", "damaged",
    "purge",
)  # fmt: skip
RIGHT = frozenset(range(1, 8))


def main() -> int:
    """Try each chosen application, and print tables, Markdown or JSON."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    results: list[Result] = []
    missing: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(options.folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-corpus-")))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        server = start_region(stack, "be", folder, options.postgres).server
        recipes = [load(path) for path in options.recipe] or [
            recipe_of(name) for name in options.applications or known()
        ]
        for recipe in recipes:
            name = recipe.name
            try:
                _say(f"{name}: install")
                install(recipe)
                results.append(Trial(recipe, server, folder / name, _say).run())
            except CorpusError as error:
                missing[name] = str(error)
                _say(str(error))
            for database in server.sql("postgres", "SELECT datname FROM pg_database WHERE datname ^@ 'corpus_'"):
                server.drop_database(database[0])
    if options.json:
        print(json.dumps([asdict(one) for one in results], indent=1))
    elif options.markdown:
        lines = [HEADINGS, tuple("---:" if at in RIGHT else "---" for at in range(len(HEADINGS))), *map(_row, results)]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        Voice().table(HEADINGS, list(map(_row, results)), RIGHT)
    for result in results:
        for note in result.notes:
            _say(f"{result.name}: {note}")
    for name in missing:
        _say(f"{name}: could not be tried")
    return 0 if all(result.well and not result.wrong for result in results) and not missing else 1


def _row(result: Result) -> tuple[str, ...]:
    numbers = (result.tables, result.rows, result.lines, result.by_keys, result.proposed, result.decided, result.wrong)
    return (result.what, *map(thousands, numbers), result.restore, result.drill, result.damaged, result.purge)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/corpus", description=__doc__)
    add = parser.add_argument
    names = known()
    add("applications", nargs="*", choices=[*names, []], default=[], metavar="NAME", help=", ".join(names))
    add("--recipe", type=Path, action="append", default=[], metavar="FILE", help="try an application of your own")
    add("--postgres", type=int, metavar="MAJOR", help="[15 where Debian's is installed, else any]")
    add("--folder", metavar="DIR", help="work there, and leave the files for a look")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print all that was found as JSON")
    shape.add_argument("--markdown", action="store_true", help="print the table in Markdown, as the manual has it")
    options = parser.parse_args()
    if options.postgres is None and 15 in postgres.installations():
        options.postgres = 15
    return options


if __name__ == "__main__":
    sys.exit(main())
