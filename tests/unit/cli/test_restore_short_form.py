"""`restore be app ...`: the options say which command is meant."""

import pytest
import typer
from typer.main import get_group

from backupd.cli.commands import restore
from backupd.cli.commands.restore.short_form import RestoreGroup, written_out

KNOWN = {"database", "region", "in-place", "files", "scratch", "preview", "runbook", "clean"}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("be app --target x", "database be app --target x"),
        ("be --target x", "region be --target x"),
        ("be app --target-dir out", "files be app --target-dir out"),
        ("be app --target-dir=out", "files be app --target-dir=out"),
        ("be --target-dir out", "files be --target-dir out"),
        ("be app --plan --tenant 7", "preview be app --tenant 7"),
        ("be app --runbook", "runbook be app"),
        ("be app --in-place --tenant 7 --target x", "in-place be app --tenant 7 --target x"),
        ("be app --clean --target x", "clean --target x"),
        ("database be app --target x", "database be app --target x"),
        ("files be app --target-dir out", "files be app --target-dir out"),
        ("--help", "--help"),
        ("", ""),
    ],
)
def test_the_command_that_is_meant_is_put_first(typed: str, meant: str) -> None:
    """A command's own name always wins, and nothing else is changed."""
    assert written_out(typed.split(), KNOWN) == meant.split()


def test_every_command_of_the_group_is_known() -> None:
    """A region of such a name needs the long form; a new command is to be thought of here."""
    app = typer.Typer()
    restore.add(app)
    group = get_group(app).commands["restore"]
    assert isinstance(group, RestoreGroup)
    assert set(group.commands) == KNOWN
