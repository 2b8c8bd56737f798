"""`config check`, `config example`, `config show`."""

from __future__ import annotations

import importlib.resources
import os
from typing import TYPE_CHECKING, Any

import typer

from backupd.cli import output
from backupd.cli.manual import exit_statuses
from backupd.cli.options import ConfigOption, JsonOption, configured_file

if TYPE_CHECKING:
    from backupd.config.faults import Fault
    from backupd.config.schema import Config


def add(app: typer.Typer) -> None:
    group = typer.Typer(rich_markup_mode=None, help="Check, explain and show the configuration.")
    for function, name in ((check, "check"), (example, "example"), (show, "show")):
        group.command(name, epilog=exit_statuses())(function)
    app.add_typer(group, name="config")


def check(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Report everything that is wrong with the configuration, at once.

    Every fault comes with its key path and line: wrong values, unknown keys, names that do not exist, stores where the
    region's data may not go, files that are missing or open to others. Advice does not fail the check. It connects to
    nothing.

    \b
    Example:
      backupd config check --config ./backupd.toml
    """
    from backupd.config.faults import ConfigFaultsError
    from backupd.config.files import file_faults
    from backupd.config.load import advice, parse, read_text

    file = configured_file(context, config)
    text = read_text(file)
    checked = parse(text, str(file))
    files = file_faults(checked, text, os.environ)
    if files.faults:
        raise ConfigFaultsError(str(file), files.faults)
    hints = advice(checked, text)
    if as_json:
        output.print_json(
            {"config": str(file), "faults": [], "advice": hints, "unchecked": files.unchecked, **_counts(checked)}
        )
        return
    output.print_lines(_advice_line(hint) for hint in hints)
    output.print_lines(f"not checked: {name}, which only systemd can hand over" for name in files.unchecked)
    counts = ", ".join(f"{count} {name if count != 1 else name[:-1]}" for name, count in _counts(checked).items())
    output.print_lines([f"no fault in {file}: {counts}"])


def example() -> None:
    """Print a commented configuration to start from.

    \b
    Example:
      backupd config example > backupd.toml
    """
    text = importlib.resources.files("backupd.config").joinpath("example.toml").read_text("utf-8")
    output.print_lines(text.splitlines())


def show(context: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the configuration as it is understood, defaults included.

    It holds no secrets, and files that do are named, not read. Of connection strings only host, port, database and user
    are shown.

    \b
    Example:
      backupd config show --json
    """
    from backupd.config.load import load
    from backupd.config.redact import redacted

    file = configured_file(context, config)
    facts = redacted(load(file))
    if as_json:
        output.print_json({"config": str(file), "values": facts})
    else:
        output.print_lines(f"{key} = {value}" for key, value in _flat("", facts))


def _counts(config: Config) -> dict[str, int]:
    return {
        "regions": len(config.regions),
        "databases": sum(len(region.databases) for region in config.regions.values()),
        "stores": len(config.stores),
        "recipients": len(config.recipients),
    }


def _advice_line(fault: Fault) -> str:
    place = f"line {fault.line}: " if fault.line else ""
    return f"advice: {place}{fault.key}: {fault.message}. {fault.hint}"


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for name, below in value.items() for pair in _flat(f"{prefix}.{name}" if prefix else name, below)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [pair for index, below in enumerate(value) for pair in _flat(f"{prefix}[{index}]", below)]
    return [(prefix, value)]
