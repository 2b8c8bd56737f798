"""A real process is started for what only it shows: signals, pipes, loaded modules, and the text of each help."""

import importlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from doubles.paths import ROOT

import backupd
from backupd.cli.application import COMMANDS, build, commands_of
from backupd.seal import keyfiles, suite

ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100"}


def command(*arguments):
    return [sys.executable, "-m", "backupd", *arguments]


def help_of(*path):
    done = subprocess.run(
        command(*path, "--help"), env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def every_command():
    found = []

    def walk(parser, path):
        found.append(path)
        for name, below in getattr(parser, "commands", {}).items():
            walk(below, (*path, name))

    walk(build(), ())
    return found


@pytest.mark.parametrize("path", every_command(), ids=lambda path: " ".join(path) or "backupd")
def test_every_help_says_what_it_does_and_where_the_exit_statuses_are_listed(path):
    """A manual page: a sentence, an example, and the topic of the manual that lists the exit statuses."""
    text = help_of(*path)

    group = path and "\nCommands:\n" in text
    assert re.match(r"Usage: backupd.*\n\n  [A-Z]", text)
    assert group or "Example" in text or "The way from nothing" in text
    if not group:
        assert text.endswith("\n  `backupd manual exit-status` lists the exit statuses.\n")


def test_help_loads_none_of_the_libraries_it_does_not_need():
    """Help is quick, and a backup's memory is not spent on tables and forms."""
    code = (
        "import sys\n"
        "from backupd.cli.main import main\n"
        "assert main(['backup', '--help']) == 0\n"
        "heavy = {'paramiko', 'psycopg', 'rich', 'cryptography', 'tenacity', 'zstandard'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True, timeout=60)


def test_the_end_of_a_command_takes_no_time():
    """What was imported is not looked through for garbage once more: that took a quarter of an idle backup's time."""
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "sys.argv = ['backupd', '--version']\n"
        "from backupd.cli.main import run\n"
        "run()\n"
    )

    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True, timeout=60)

    assert done.stdout.endswith(b"True\n")


def test_ssh_is_loaded_without_what_it_does_not_need():
    """Every command that looks at a store pays for it; who has loaded the library for another purpose keeps it."""
    code = (
        "import sys\n"
        "if sys.argv[1:]: import invoke\n"
        "from backupd.store.sftp import ssh\n"
        "assert 'paramiko' in sys.modules\n"
        "assert bool(sys.modules['invoke']) == bool(sys.argv[1:])\n"
    )

    for arguments in ([], ["invoke"]):
        command = [sys.executable, "-c", code, *arguments]
        subprocess.run(command, env=ENVIRONMENT, capture_output=True, check=True, timeout=60)


def test_the_version_is_printed_without_loading_the_commands():
    """Health checks ask for it often; with another option beside it, the parser prints the same line."""
    code = (
        "import sys\n"
        "from backupd.cli.main import main\n"
        "assert main(['--version']) == 0\n"
        "assert 'typer' not in sys.modules\n"
        "assert main(['--config', 'none', '--version']) == 0\n"
        "assert 'backupd.cli.commands.status' not in sys.modules\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == f"backupd {backupd.__version__}\n" * 2


def test_a_command_loads_no_other_group_of_commands():
    """A run pays for the command it runs."""
    code = (
        "import sys\n"
        "from backupd.cli.main import main\n"
        "assert main(['status', '--config', '/nonexistent']) == 3\n"
        "loaded = {name for name in sys.modules if name.startswith('backupd.cli.commands.')}\n"
        "assert loaded == {'backupd.cli.commands.status'}, loaded\n"
    )

    subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=True, timeout=60)


@pytest.mark.parametrize("module", sorted(set(COMMANDS.values())))
def test_every_module_adds_the_commands_that_are_listed_as_its_own(module):
    """The list is what `backupd --help` goes by: a command that it lacks could not be called."""
    assert set(commands_of(module)) == {name for name, where in COMMANDS.items() if where == module}


def test_every_module_of_commands_is_listed():
    """A module that nothing names would be dead."""
    folder = ROOT / "backupd" / "cli" / "commands"
    found = {name for name in (path.stem for path in folder.iterdir()) if hasattr(import_command(name), "add")}

    assert found - {"escrow"} == set(COMMANDS.values())


def import_command(name):
    return importlib.import_module(f"backupd.cli.commands.{name}") if not name.startswith("__") else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_run_in_order(tmp_path, number):
    """Exit status 130, one JSON object that says why, and no traceback."""
    pair = suite.generate()
    keyfiles.write_recipient(tmp_path / "ops.recipient", keyfiles.Recipient("ops", pair.public))
    keyfiles.write_identity(tmp_path / "ops.identity", "ops", pair, "correct horse")
    config = (Path(__file__).with_name("base.toml")).read_text().replace("<folder>", str(tmp_path))
    (tmp_path / "backupd.toml").write_text(config)
    os.mkfifo(tmp_path / "passphrase")
    arguments = ["verify", "be", "--identity", "ops.identity", "--passphrase-file", "passphrase", "--json"]
    with subprocess.Popen(
        # Under nohup, as CI may run, a terminal that goes ends nothing.
        ["env", "--default-signal=HUP", *command("--config", "backupd.toml", *arguments)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        waits_for_passphrase(tmp_path / "passphrase")
        reads_from_a_pipe(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert json.loads(out)["error"]["message"] == f"stopped by {number.name}"
    assert err == ""


def waits_for_passphrase(fifo):
    """Return once the program has opened the pipe to read from it; it gets nothing to read."""
    deadline = time.monotonic() + 60
    while True:
        try:
            # Kept open on purpose: closing it would be an end of input.
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            assert time.monotonic() < deadline, "the program never asked for the passphrase"
            time.sleep(0.02)


def reads_from_a_pipe(pid):
    """Return once the process sleeps in a read from a pipe: a signal between its open and its read wakes no read.

    Where the kernel does not say what it waits for, five seconds are enough.
    """
    deadline = time.monotonic() + 5
    while "pipe" not in Path(f"/proc/{pid}/wchan").read_text() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_reader_that_goes_away_is_no_fault_of_ours():
    """`backupd config example | head -1` ends without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            command("config", "example"), env=ENVIRONMENT, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60
        )

    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "arguments", [["--version"], ["manual", "words"], ["--config", "none", "config", "check", "--json"]]
)
def test_output_that_nothing_takes_is_named(arguments):
    """As a file on a full disk. It is no disk of backupd's, and the interpreter has no word of its own at the end."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False
        )
    assert done.returncode == (3 if "--json" in arguments else 1)
    assert "Exception" not in done.stderr
    assert "node.state_dir" not in done.stderr
    if "--json" not in arguments:
        assert done.stderr.startswith("backupd: standard output cannot be written: no space left on device\n")


@pytest.mark.parametrize("closed", ["0<&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_changes_no_status(closed):
    """Some that start programs close them; what a command opens must not take a stream's place, either."""
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh"]
    done = subprocess.run(
        [*shell, *command("--config", "none", "config", "check")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 3
    assert ("no configuration" in done.stderr) is ("2>&-" not in closed)


def test_a_fault_of_ours_shows_where_and_no_message(monkeypatch, capsys, no_internal_errors):
    """A foreign exception may quote a row: its text is printed nowhere."""
    from backupd.cli import main

    def broken():
        raise RuntimeError("the row is hunter2")

    monkeypatch.setattr("backupd.cli.application.build", broken)
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main.main(["config", "check"]) == 1
        assert main.main(["config", "check", "--json"]) == 1
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

    shown = capsys.readouterr()
    assert "hunter2" not in shown.out + shown.err
    assert "internal error: RuntimeError" in shown.err
    assert "test_process.py" in shown.err
    assert json.loads(shown.out)["error"]["kind"] == "internal"
    assert set(no_internal_errors) == {"internal error: RuntimeError: the row is hunter2"}
    no_internal_errors.clear()


def test_every_output_that_a_test_reads_is_looked_through(no_internal_errors):
    """Such an error fails the test that met it, in whatever program it came up."""
    script = "import sys; print('backupd: internal error: KeyError'); print('internal error: OSError', file=sys.stderr)"
    subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert no_internal_errors == ["backupd: internal error: KeyError", "internal error: OSError"]
    no_internal_errors.clear()


def test_a_passphrase_is_asked_for_twice_and_never_shown(tmp_path):
    """On a terminal, without echo; the identity it makes opens with it."""
    passphrase = "correct horse battery"
    master, terminal = pty.openpty()
    with subprocess.Popen(
        command("key", "generate", "ops.identity"),
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        shown = b""
        for prompt in (b"New passphrase of ops.identity: ", b"The same again: "):
            while not shown.endswith(prompt):
                shown += os.read(master, 1024)
            os.write(master, passphrase.encode() + b"\n")
        out, _ = process.communicate(timeout=60)
    os.close(master)

    assert process.returncode == 0
    assert passphrase.encode() not in shown + out
    assert keyfiles.read_identity(tmp_path / "ops.identity", passphrase).secret
