"""`restore be app ...`: the options say which command is meant."""

import pytest
import typer
from typer.main import get_group

from backupd.cli.commands import restore
from backupd.cli.commands.restore.short_form import RestoreGroup, written_out
from backupd.errors import UsageError

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
        ("database be app --target x", "database be app --target x"),
        ("files be app --target-dir out", "files be app --target-dir out"),
        ("--help", "--help"),
        ("", ""),
    ],
)
def test_the_command_that_is_meant_is_put_first(typed: str, meant: str) -> None:
    """A command's own name always wins, and nothing else is changed."""
    assert written_out(typed.split(), KNOWN) == meant.split()


def test_a_restore_that_would_only_clean_up_is_refused() -> None:
    """pg_restore's flag of that name restores, so that a script would go on as if ours had, too."""
    with pytest.raises(UsageError, match="--clean restores nothing"):
        written_out(["be", "app", "--clean", "--target", "x"], KNOWN)
    assert written_out(["clean", "--target", "x"], KNOWN) == ["clean", "--target", "x"]


def test_every_command_of_the_group_is_known() -> None:
    """A region of such a name needs the long form; a new command is to be thought of here."""
    app = typer.Typer()
    restore.add(app)
    group = get_group(app).commands["restore"]
    assert isinstance(group, RestoreGroup)
    assert set(group.commands) == KNOWN
