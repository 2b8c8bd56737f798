"""Sets of options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from backupd.cli import application
from backupd.cli.command_tree import command_tree
from backupd.cli.main import main
from backupd.cli.options import grouped, new_passphrase
from backupd.errors import UsageError


@dataclass(frozen=True, slots=True)
class Shared:
    """Two options."""

    size: Annotated[int, typer.Option("--size", help="How large.")] = 3
    colour: Annotated[list[str] | None, typer.Option("--colour")] = None


def paint(what: Annotated[str, typer.Argument()], *, quick: bool = False, shared: Shared) -> None:
    typer.echo(f"{what} {quick} {shared}")


def test_a_command_has_the_options_of_a_set() -> None:
    """Each is parsed as if it were the command's own, defaults are the fields', and the command gets the set whole."""
    app = typer.Typer()
    app.command()(grouped(paint))
    runner = CliRunner()

    given = runner.invoke(app, ["door", "--size", "7", "--colour", "red", "--colour", "blue", "--quick"])
    left_out = runner.invoke(app, ["door"])
    wrong = runner.invoke(app, ["door", "--size", "large"])

    assert given.output == f"door True {Shared(7, ['red', 'blue'])}\n"
    assert left_out.output == f"door False {Shared()}\n"
    assert wrong.exit_code == 2
    assert "How large." in runner.invoke(app, ["--help"]).output


def test_a_passphrase_that_is_too_short_is_refused_before_it_is_typed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody types it twice in vain."""
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: [asked.append(prompt), "short"][1])
    with pytest.raises(UsageError, match="shorter"):
        new_passphrase(None, "ops.identity")
    assert len(asked) == 1


def test_every_command_that_takes_a_tenant_says_how_a_name_with_a_dash_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a name is taken for options; a command of other arguments says nothing of tenants."""
    monkeypatch.setattr("signal.signal", lambda _number, _handler: None)
    parser = application.build()
    monkeypatch.setattr(application, "build", lambda: parser)
    commands = [one for one in command_tree(parser).every() if not one.below]
    taking = [one.path for one in commands if any(argument.value == "TENANT" for argument in one.arguments)]
    assert ("tenant", "erase") in taking
    for path in (*taking, ("backup",)):
        assert main([*path, "be", "--odd"]) == UsageError.exit_code
        assert ("`--` goes before a tenant's name" in capsys.readouterr().err) == (path in taking)
