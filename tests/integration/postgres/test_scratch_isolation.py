"""What runs in a scratch server is code of the databases' owners: it reaches no secret, and leaves nothing behind.

Each test plays code that a superuser of the server runs, for a server made by root and for one made by a user without
rights, who owns the secrets, as the unit of drills does.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from doubles.node import processes
from doubles.paths import ROOT

from backupd.errors import ConfigError, ProgramKilledError
from backupd.postgres.scratch.cluster import ClusterSpec, scratch_cluster
from backupd.postgres.scratch.jail import Jailed
from backupd.postgres.scratch.programs import Runner, find_server, runner

NOBODY = 65534
SAME = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
MAKER = """
import secrets, sys
from pathlib import Path
from backupd.postgres.scratch.cluster import ClusterSpec, scratch_cluster
from backupd.postgres.scratch.programs import find_server, runner
parent = Path(sys.argv[1])
with scratch_cluster(ClusterSpec(parent, find_server((), 15), runner("nobody"), secrets.token_hex(8))) as cluster:
    print(cluster.path, flush=True)
    sys.stdin.readline()
    if sys.argv[2] != "remove":
        kept = cluster.keep(Path(sys.argv[2]))
        print(kept.starting, kept.stopping, sep="\\n", flush=True)
    else:
        gone = cluster.dispose()
        print(dict(gone.destroyed), gone.remaining, flush=True)
"""

NESTER = """
import os, secrets, sys
from pathlib import Path
from backupd.postgres.scratch.cluster import reap
from backupd.postgres.scratch.folder import make_folder
parent = Path(sys.argv[1])
(parent / "outside").mkdir()
(parent / "outside" / "precious").touch()
made = make_folder(parent, secrets.token_hex(8))
here = os.open(made.path, os.O_DIRECTORY)
for name in ("data", *["d" * 200] * 3000):
    os.mkdir(name, dir_fd=here)
    deeper = os.open(name, os.O_DIRECTORY, dir_fd=here)
    os.symlink(parent / "outside", "link", dir_fd=deeper)
    os.chmod(here, 0o711 if name == "data" else 0)
    os.close(here)
    here = deeper
os.chmod(here, 0)
made.lock.close()
print(reap(parent))
"""


@dataclass
class Maker:
    """A process with a scratch server."""

    process: subprocess.Popen[str]
    path: Path
    drop: tuple[str, ...]

    @property
    def data(self) -> Path:
        return self.path / "data"

    def connect(self) -> psycopg.Connection[tuple[str, ...]]:
        where = f"host={self.path / 'socket'} port=5432 user=postgres dbname=postgres"
        return psycopg.connect(where, autocommit=True)

    def shell(self, command: str) -> list[str]:
        """Run a command as the server does, and return the lines that it says, on whichever output."""
        with self.connect() as connection:
            connection.execute("CREATE TEMPORARY TABLE told (line text)")
            connection.execute(f"COPY told FROM PROGRAM {_literal(f'( {command} ) 2>&1; true')}".encode())
            return [line for (line,) in connection.execute("SELECT line FROM told").fetchall()]

    def end(self) -> list[str]:
        """Have it dispose of the server, or keep it, and return what it says of that."""
        told, _ = self.process.communicate("\n", timeout=120)
        return told.splitlines()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder other users can reach, with a short path."""
    folder = Path("/tmp") / f"isolated-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture(params=["root", "nobody"])
def drop(request: pytest.FixtureRequest, parent: Path) -> tuple[str, ...]:
    """The words before a command that make it run as this user, who owns the folder."""
    if os.geteuid() != 0:
        if request.param == "root":
            pytest.skip("only root can be root")
        return ()
    if request.param == "root":
        return ()
    if not SAME.exists():
        pytest.skip(f"another user has no interpreter: there is no {SAME}")
    os.chown(parent, NOBODY, NOBODY)
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def _python(drop: tuple[str, ...]) -> tuple[str]:
    """The interpreter that whoever a command is dropped to can run."""
    return (str(SAME) if drop else sys.executable,)


def _environment() -> dict[str, str]:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def last(request: pytest.FixtureRequest) -> str:
    """What the maker does at the end."""
    return getattr(request, "param", "remove")


@pytest.fixture
def maker(parent: Path, drop: tuple[str, ...], last: str) -> Iterator[Maker]:
    last = str(parent / last) if last != "remove" else last
    process = subprocess.Popen(
        [*drop, *_python(drop), "-c", MAKER, str(parent), last],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(),
    )
    with process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        try:
            yield Maker(process, path, drop)
        finally:
            process.kill()
            processes.eventually(lambda: not path.exists())  # a process beside it removes it


@pytest.fixture
def secret(parent: Path) -> Path:
    """A file that the server's user owns and nobody else may read: an identity, or a keeper's key."""
    folder = parent / "credentials"
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    path = folder / "drill.identity"
    path.write_text("SECRET\n")
    path.chmod(0o400)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


def test_it_sees_no_file_but_its_own(maker: Maker, secret: Path) -> None:
    """No function of SQL and no program that it runs reads what its user could; nor the marker beside its folders."""
    with maker.connect() as connection:
        for path in (secret, Path("/etc/hostname"), Path("/proc/self/environ"), maker.path / "drill.json"):
            with pytest.raises(psycopg.errors.UndefinedFile):
                connection.execute("SELECT pg_read_file(%s)", (str(path),))
    told = maker.shell(f"cat {secret}; ls -A / ; ls {secret.parent.parent}/*; ls {maker.path}")
    assert "SECRET" not in told
    assert {"proc", "run", "root", "home", "srv", "sys"}.isdisjoint(told)
    assert not [name for name in told if name.startswith(".")], "the machine's root is still there"
    assert {"data", "socket"} <= set(told)
    assert secret.parent.name not in told
    assert "drill.json" not in told


def test_it_changes_no_file_but_its_own(maker: Maker) -> None:
    """Neither programs nor devices nor what is its own by name; and it can put no program where it could run it."""
    for place in ("/usr/bin", "/etc", "/dev", "/tmp", "/", str(maker.path), str(maker.path / "socket")):
        assert any("Read-only file system" in line for line in maker.shell(f"touch {place}/new")), place
    here = maker.data / "new"
    assert maker.shell(f"cp /bin/true {here} && {here}")[-1].endswith("Permission denied")


def test_it_sees_no_process_and_no_network_but_its_own(maker: Maker) -> None:
    """It can signal nobody, reaches no address, and has no right by which it could change that."""
    with subprocess.Popen([*maker.drop, "sleep", "600"]) as bystander:
        maker.shell(f"kill -9 {bystander.pid}")
        assert bystander.poll() is None
        bystander.kill()
    server = min(processes.running_in(maker.data))
    for kind in ("net", "pid", "mnt", "ipc"):
        assert Path(f"/proc/{server}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink(), kind
    first = int(_status(server)["PPid"])
    for pid in (server, first):  # also the one that ends it all, and waits there
        status = _status(pid)
        assert {status[f"Cap{name}"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}, pid
        assert status["NoNewPrivs"] == "1"
        assert "0" not in status["Uid"].split()


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def test_its_socket_cannot_be_replaced(maker: Maker, parent: Path) -> None:
    """Else we would follow a link to a server that is nobody's to touch."""
    path = maker.path / "socket" / ".s.PGSQL.5432"
    before = path.lstat().st_ino
    maker.shell(f"mv {path} {path}.old; rm -f {path}; ln -s {parent}/elsewhere {path}")
    assert path.lstat().st_ino == before
    assert path.is_socket()


def _bystanders(maker: Maker) -> list[int]:
    """Start a program in another folder and another session, as the server would, and return it once it runs."""
    odd = f"86400.{secrets.randbelow(10**9)}"
    maker.shell(f"cd /; setsid sleep {odd} </dev/null >/dev/null 2>&1 &")
    running: list[int] = []

    def runs() -> bool:
        running[:] = [pid for pid in processes.everybody() if processes.arguments(pid) == f"sleep\0{odd}\0".encode()]
        return bool(running)

    processes.eventually(runs)
    return running


def test_nothing_that_it_started_outlives_it(maker: Maker) -> None:
    """A process in another folder and another session, too; and the report of the end is true."""
    running = _bystanders(maker)
    assert maker.end()[-1] == "{'scratch-server': 'process-gone', 'data-folder': 'listed-absent'} 0"
    assert not processes.alive(running)
    assert not maker.path.exists()


def test_it_is_gone_with_the_one_who_made_it(maker: Maker) -> None:
    """Killed as the kernel kills: the server and all it started end, too."""
    running = _bystanders(maker)
    maker.process.kill()
    processes.eventually(lambda: not processes.alive(running))
    processes.eventually(lambda: not maker.path.exists())


@pytest.mark.parametrize("last", ["remove", "look"], indirect=True)
def test_nothing_that_it_leaves_is_followed_or_believed(maker: Maker, parent: Path, last: str) -> None:
    """Links are not written through, and a number in a file kills nobody."""
    victim = parent / "victim"
    victim.write_text("precious\n")
    if os.geteuid() == 0:
        os.chown(victim, NOBODY, NOBODY)
    with subprocess.Popen([*maker.drop, "sleep", "600"]) as bystander:
        try:
            maker.shell(
                f"cd {maker.data} && ln -sf {victim} postgresql.auto.conf && ln -sf {victim} pg_hba.conf.new; "
                f"printf '{bystander.pid}\\n' >postmaster.pid.new && cat postmaster.pid >>postmaster.pid.new; "
                f"sed 2d postmaster.pid.new >postmaster.pid; mkdir -p away && ln -s {parent} away/up"
            )
            told = maker.end()
            assert bystander.poll() is None
        finally:
            bystander.kill()
    assert victim.read_text() == "precious\n"
    if last == "remove":
        assert told[-1].endswith(" 0")
        assert not maker.path.exists()
    else:
        assert [line.split()[-1] for line in told[-2:]] == ["start", "stop"]


@pytest.mark.parametrize("last", ["look"], indirect=True)
def test_a_kept_server_stays_where_it_is_put(maker: Maker, parent: Path, secret: Path) -> None:
    """Whenever it runs again, by the commands that are printed, it is as alone as before."""
    with maker.connect() as connection:
        connection.execute("CREATE TABLE public.note AS SELECT 7 AS id")
        connection.execute("ALTER SYSTEM SET listen_addresses = '*'")
        connection.execute("ALTER SYSTEM SET archive_command = 'true'")
    starting, stopping = maker.end()[-2:]
    maker.path = parent / "look"
    for _ in range(2):
        subprocess.run([*maker.drop, *shlex.split(starting)], check=True, timeout=120)
        assert subprocess.run([*maker.drop, *shlex.split(starting)], check=False, timeout=120).returncode == 1
        with maker.connect() as connection:
            assert connection.execute("SELECT id FROM public.note").fetchall() == [(7,)]
            assert connection.execute("SHOW listen_addresses").fetchall() == [("",)]
            assert connection.execute("SHOW fsync").fetchall() == [("on",)]
        assert "SECRET" not in maker.shell(f"cat {secret}")
        running = _bystanders(maker)
        for _ in range(2):
            subprocess.run([*maker.drop, *shlex.split(stopping)], check=True, timeout=120)
        assert not processes.alive(running)


def test_folders_that_are_too_deep_or_closed_are_removed(parent: Path, drop: tuple[str, ...]) -> None:
    """However it nests and closes them, also for an owner whom a mode stops; a link among them is not followed."""
    done = subprocess.run(
        [*drop, *_python(drop), "-c", NESTER, str(parent)],
        check=True,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    assert done.stdout == "(1, 0)\n"
    assert [path.name for path in parent.iterdir()] == ["outside"]
    assert (parent / "outside" / "precious").exists()


def test_where_nothing_can_be_isolated_nothing_is_started() -> None:
    """And it is said what to set up, rather than only warned."""
    if os.geteuid() != 0:
        pytest.skip("only root can take its own rights away")
    code = "from backupd.postgres.scratch.programs import runner; runner('nobody')"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "cannot be isolated from this machine: the system refuses unshare: Operation not permitted" in done.stderr


def test_a_killed_jail_says_so_and_blames_no_system(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it the command, or the jail around it: memory that runs out is no reason to change the machine's rules."""
    jailed = runner("nobody")
    dying = Jailed(["/bin/sh", "-c", "kill -9 $$"], jailed.user, jailed.group, [], [], 1 << 30)
    assert jailed.run(dying, 60) == (-signal.SIGKILL, "")
    monkeypatch.setattr(Runner, "run", lambda *_: (-signal.SIGKILL, ""))
    with pytest.raises(ProgramKilledError, match="a scratch server's jail was ended by SIGKILL"):
        runner("nobody")
    with (
        pytest.raises(ProgramKilledError, match="the scratch server's initdb was ended by SIGKILL"),
        scratch_cluster(ClusterSpec(parent, find_server((), 15), jailed, secrets.token_hex(8))),
    ):
        pytest.fail("it has no data")


def test_the_user_is_one_who_exists_and_is_not_root() -> None:
    """Whoever starts it."""
    if os.geteuid() == 0:
        with pytest.raises(ConfigError):
            runner("root")
    assert runner("nobody").user in (NOBODY, os.geteuid())
