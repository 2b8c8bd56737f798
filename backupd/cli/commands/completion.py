"""The command `completion`: what has a shell complete the words of a command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from backupd.cli.options import EXIT_STATUS
from backupd.errors import UsageError


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("completion", epilog=EXIT_STATUS)(completion)


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", show_default=False, help="The shell to print for.")],
) -> None:
    """Print a script by which a shell completes commands, options, files and topics.

    `scripts/install` and the Debian package put it where each shell looks for it. It asks nothing while you type.

    \b
    Examples:
      backupd completion bash > ~/.local/share/bash-completion/completions/backupd
      backupd completion fish > ~/.config/fish/completions/backupd.fish
    """
    from backupd.cli.command_tree import command_tree
    from backupd.cli.commands.manual import topics
    from backupd.cli.completion import SHELLS, completion_script

    if shell not in SHELLS:
        raise UsageError(f'there is no completion for "{shell}"', hint=f"It is one of {', '.join(SHELLS)}.")
    sys.stdout.write(completion_script(shell, command_tree(context.find_root().command), topics()))
