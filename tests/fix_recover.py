"""`scripts/recover` as a person in trouble has it: in a Python that has two packages and no backupd."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.paths import RECOVER

PACKAGES = ("cryptography", "zstandard")
Recover = Callable[..., "subprocess.CompletedProcess[str]"]


def _with_requirements(names: tuple[str, ...]) -> Iterator[importlib.metadata.Distribution]:
    for name in names:
        found = importlib.metadata.distribution(name)
        yield found
        needed = [line.split(";")[0] for line in found.requires or () if "extra ==" not in line]
        yield from _with_requirements(tuple(line.split(">")[0].split("<")[0].split("=")[0].strip() for line in needed))


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new virtual environment with the two packages, linked from here, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in _with_requirements(PACKAGES):
        for top in {file.parts[0] for file in distribution.files or () if ".." not in file.parts}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    python = folder / "bin" / "python"
    check = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ['backupd', 'msgspec', 'paramiko'])))"
    subprocess.run([python, "-I", "-c", check], check=True)
    return python


@pytest.fixture
def recover(bare_python: Path, tmp_path: Path) -> Recover:
    """Runs the script with these arguments, in a folder that is not the project's."""

    def run(*arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [bare_python, "-X", "dev", "-W", "error", RECOVER, *map(str, arguments)],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            timeout=timeout,
        )

    return run
