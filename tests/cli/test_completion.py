"""Completion in real shells: bash, zsh and fish complete what the program takes, and nothing else."""

from __future__ import annotations

import os
import subprocess

import pytest
from doubles.node.terminal import Terminal

from backupd.cli.application import build
from backupd.cli.command_tree import command_tree
from backupd.cli.commands.manual import topics
from backupd.cli.completion import SHELLS, completion_script
from backupd.model.ids import SnapshotName
from backupd.operations.snapshots.listed_names import remember_one

TREE = command_tree(build())

SNAPSHOTS = "20300101T000000Z-0a0a0a0a", "20300102T000000Z-0b0b0b0b"
CASES = {
    "backupd ke": {"key"},
    "backupd key g": {"generate"},
    "backupd key generate --si": {"--signer"},
    "backupd --config here.toml key escrow ": {"split", "combine"},
    "backupd verify be --read-data a": {"all"},
    "backupd status --json --conf": {"--config"},
    "backupd manual incid": {"incidents"},
    "backupd key check --identity ops.id": {"ops.identity"},
    "backupd restore files be app --target-dir new-f": {"new-folder"},
    "backupd key check --identity generate --sto": {"--store"},
    "backupd backup --database ": set(),
    "backupd snapshots b": {"be"},
    "backupd verify ": {"be", "ca"},
    "backupd key check be --store z": {"zurich"},
    "backupd replicate be --from cel": {"cellar"},
    "backupd restore files c": {"ca"},
    "backupd info be ": {"latest", *SNAPSHOTS},
    "backupd ls ca 20300102": {SNAPSHOTS[1]},
    "backupd diff be 20300101T000000Z-0a0a0a0a 20300102": {SNAPSHOTS[1]},
    "backupd restore database be app --snapshot 20300101": {SNAPSHOTS[0]},
    "backupd --config here.toml info be lat": {"latest"},
}
"""What is typed, and the words that stand for choice then, in a folder with `ops.identity`, `new-folder`, and a
configuration in two files."""
CONFIG = """
[stores.zurich]
[regions.be]
[regions.be.databases.app]
[[regions.be.databases.app.tables]]
[regions.ca]
"""

_BASH = """
source "$1"
read -ra COMP_WORDS <<<"$2"
[[ $2 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_backupd
printf '%s\\n' "${COMPREPLY[@]}"
"""
_FISH = 'source $argv[1]; complete --do-complete "$argv[2]"'


@pytest.fixture
def scripts(tmp_path):
    """The scripts as files, in a folder with something to complete."""
    for shell in SHELLS:
        (tmp_path / f"_{shell}").write_text(completion_script(shell, TREE, topics()))
    (tmp_path / "ops.identity").touch()
    (tmp_path / "new-folder").mkdir()
    (tmp_path / "backupd.toml").write_text(f'[node]\nstate_dir = "{tmp_path}/state"\n{CONFIG}')
    (tmp_path / "state").mkdir()
    for region, name in zip(("be", "ca"), SNAPSHOTS, strict=True):
        remember_one(tmp_path / "state" / region, SnapshotName(f"{name}{'0' * 56}"))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "more.toml").write_text("[stores.cellar]\n")
    return tmp_path


def offered(folder, *command):
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "BACKUPD_CONFIG": "backupd.toml"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    return {line.split("\t")[0].rstrip("/") for line in done.stdout.splitlines() if line}


@pytest.mark.parametrize("typed", CASES)
def test_bash_completes(scripts, typed):
    """The function that bash calls answers with the words that fit, and with no others."""
    found = offered(scripts, "bash", "--norc", "-c", _BASH, "bash", str(scripts / "_bash"), typed)
    assert found == CASES[typed]


@pytest.mark.parametrize("typed", CASES)
def test_fish_completes(scripts, typed):
    """Asked for a completion, fish answers the same."""
    assert offered(scripts, "fish", "--no-config", "-c", _FISH, str(scripts / "_fish"), typed) == CASES[typed]


@pytest.mark.parametrize("typed", [typed for typed, words in CASES.items() if len(words) == 1])
def test_zsh_completes(scripts, typed):
    """On a terminal, a tabulator brings the rest of the word."""
    (word,) = CASES[typed]
    functions = scripts / "functions"
    functions.mkdir()
    (scripts / "_zsh").rename(functions / "_backupd")
    (scripts / ".zshrc").write_text(f"fpath=({functions} $fpath)\nautoload -U compinit\ncompinit -u\nPS1='ready> '\n")
    with Terminal(
        scripts, {"HOME": str(scripts), "ZDOTDIR": str(scripts), "BACKUPD_CONFIG": "backupd.toml"}, "zsh", "-i"
    ) as terminal:
        terminal.wait_for("ready> ")
        terminal.type(f"{typed}\t")
        terminal.wait_for(typed.removesuffix(typed.split()[-1]) + word)


def test_every_command_and_option_is_in_every_script():
    """No shell knows fewer commands than the parser."""
    for shell in SHELLS:
        script = completion_script(shell, TREE, topics())
        for command in TREE.every():
            assert f"'{command.name}'" in script, (shell, command.name)
            for option in command.options:
                assert all(name.removeprefix("--") in script for name in option.names), (shell, option)
