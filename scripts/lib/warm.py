"""Commands of backupd in forks of one process that has imported all of it: a start costs more than a small command.

`python -m lib.warm NUMBER ARGUMENT...` runs one command so many times, one after another.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Sequence

import backupd
from backupd.cli.main import main


def warm() -> None:
    """Import all of backupd, so that a fork need not."""
    for module in pkgutil.walk_packages(backupd.__path__, "backupd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()  # what a fork would copy, to find that nothing of it is garbage


def repeat(number: int, arguments: Sequence[str]) -> int:
    """Run a command so many times; return the first exit status that is not 0."""
    warm()
    for _ in range(number):
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            status = 99
            try:
                status = main(arguments)
            except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        if status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
            return status
    return 0


if __name__ == "__main__":
    sys.exit(repeat(int(sys.argv[1]), sys.argv[2:]))
