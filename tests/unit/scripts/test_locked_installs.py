"""What scripts install is what requirements.lock holds, each with its hash, and nothing where one does not fit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.paths import ROOT

PIP = """#!/bin/sh
if [ "$1 $2" = "-m pip" ]; then
  shift 2
  echo "$*" >>"{log}"
  case "$*" in *"${{REFUSED:-nothing}}"*) exit 1 ;; esac
  exit 0
fi
exec "{python}" "$@"
"""
"""An interpreter whose pip only says what it was asked for, and may refuse something."""
CALL = re.compile(r"(?:-m pip|\bpip) (?:install|wheel|download)\b.*")
COMPARED = {"peers.sh"}
"""Scripts that install other programs, to be compared with this one."""


def put_interpreter(path: Path, log: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(PIP.format(log=log, python=sys.executable))
    path.chmod(0o755)


def run(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), **environment}
    return subprocess.run(["bash", "-c", script], cwd=folder, env=given, capture_output=True, text=True, check=False)


def locked_for(*wanted: str) -> str:
    """The lock file's text of these extras, or of packages."""
    asked = [sys.executable, str(ROOT / "scripts/lib/locked.py"), *wanted]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As much of one as installing reads; the last line of `log` is what pip was asked for last."""
    for name in ("pyproject.toml", "requirements.lock", "scripts/environment"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "scripts/lib", tmp_path / "scripts/lib", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.parametrize("script", ["test", "demo"])
def test_an_environment_takes_the_locked_with_their_hashes(checkout: Path, script: str) -> None:
    """And the program itself without looking for anything else; where the first is refused, nothing follows."""
    source = re.search(r"^\. scripts/environment (\w+)$", (ROOT / "scripts" / script).read_text(), re.MULTILINE)
    assert source is not None
    extra, log = source[1], checkout / "log"
    put_interpreter(checkout / ".venv/bin/python", log)
    refused = run(checkout, source[0], REFUSED="--require-hashes")
    assert refused.returncode != 0
    assert len(log.read_text().splitlines()) == 1
    assert not (checkout / f".venv/.installed-{extra}").exists()
    log.unlink()
    done = run(checkout, f"set -euo pipefail; {source[0]}; echo made")
    assert done.stdout == "made\n", done.stderr
    first, second = log.read_text().splitlines()
    wanted = f".venv/.installed-{extra}.requirements"
    assert first.startswith(f"install --require-hashes --requirement {wanted} ")
    assert second.startswith("install --no-deps --no-build-isolation --editable . ")
    assert (checkout / wanted).read_text() == locked_for(extra, "build")


def test_the_installation_takes_the_locked_with_their_hashes(checkout: Path) -> None:
    """What it builds with, too; where that is refused, it says that nothing was changed."""
    home, wheels, log = checkout / "home", checkout / "wheels", checkout / "log"
    wheels.mkdir()
    put_interpreter(home / "bin/python", log)
    script = f"""
    set -euo pipefail
    home={home} wheels={wheels}
    fail() {{ echo "$*"; exit 1; }}
    . <(sed -n "/^build_wheels() {{/,/^}}/p" scripts/lib/install.sh)
    build_wheels
    """
    for refused in (f"--requirement {wheels}/locked ", f"--requirement {wheels}/locked-tools "):
        done = run(checkout, script, REFUSED=refused)
        assert (done.returncode, "nothing was changed" in done.stdout) == (1, True)
        assert "--no-build-isolation" not in log.read_text()
    log.unlink()
    assert run(checkout, script).returncode == 0
    libraries, tools, own = log.read_text().splitlines()
    assert libraries == f"wheel --quiet --require-hashes --requirement {wheels}/locked --wheel-dir {wheels}"
    assert tools.startswith(f"install --quiet --require-hashes --requirement {wheels}/locked-tools ")
    assert own.startswith("wheel --quiet --no-index --no-deps --no-build-isolation ")
    assert (wheels / "locked").read_text() == locked_for()
    assert (wheels / "locked-tools").read_text() == locked_for("=hatchling")


def test_nothing_else_is_installed_by_a_script() -> None:
    """Each call of pip in one has hashes, or looks for nothing."""
    calls = {
        f"{path.name}: {call}": call
        for path in [*(ROOT / "scripts").iterdir(), *(ROOT / "scripts/lib").rglob("*.sh")]
        if path.is_file() and path.name not in COMPARED and "python" not in path.read_text().partition("\n")[0]
        for line in path.read_text().replace("\\\n", " ").splitlines()
        if not line.startswith("#") and "echo " not in line
        for call in CALL.findall(line)
    }
    assert len(calls) >= 7
    assert [where for where, call in calls.items() if not re.search(r"--require-hashes|--no-deps", call)] == []
