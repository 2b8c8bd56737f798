"""The group `config`: check the configuration, show it, or print an example."""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, configured_file
from backupd.cli.run import Reply
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import SourceError, StoreError, UnmappedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backupd.config.faults import ConfigFault, TextPlace
    from backupd.config.schema import Config
    from backupd.config.toml_lines import KeyPath
    from backupd.model.findings import Finding
    from backupd.wiring.context import Context


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="Check, explain and show the configuration.")
    for function, name in ((check, "check"), (example, "example"), (show, "show")):
        group.command(name, epilog=EXIT_STATUS)(function)
    app.add_typer(group, name="config")


def check(
    ctx: typer.Context,
    connect: Annotated[bool, typer.Option("--connect", help="Also try every database and every store.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Report everything that is wrong with the configuration, at once.

    Every fault comes with its key path and line: wrong values, unknown keys, names that do not exist, stores where the
    region's data may not go, files that are missing, open to others, or not the keys they should be. Advice does not
    fail the check. With --connect, every database is also asked whether our role may read all of it and every table is
    mapped, and every store whether it holds a repository we believe.

    \b
    Examples:
      backupd config check --config ./backupd.toml
      backupd config check --connect
    """
    return checked(configured_file(ctx, config), os.environ, connect=connect).print(as_json=as_json)


def checked(file: Path, environ: Mapping[str, str], *, connect: bool) -> Reply:
    """Return everything that is wrong with a file of configuration; raises ConfigFaultsError for what fails alone."""
    from backupd.config.document import read_document
    from backupd.config.faults import in_file_order
    from backupd.config.load import advice, parse_document
    from backupd.wiring.context import Context
    from backupd.wiring.daemon import timetable_advice
    from backupd.wiring.drill import drill_advice

    document = read_document(file)
    context = Context(parse_document(document), environ)
    places = document.merged()[1]
    unchecked = _require_files(context, places, str(file))
    hints = [
        *advice(context.config, document),
        *in_file_order([*timetable_advice(context), *drill_advice(context)], places),
    ]
    with counted_seconds("asking databases and stores", quiet=not connect):
        contacts = [*_databases(context), *_stores(context)] if connect else []
    counts = _counts(context.config)
    facts = {"config": str(file), "faults": [], "advice": hints, "unchecked": unchecked, **counts}
    total = ", ".join(f"{count} {name if count != 1 else name[:-1]}" for name, count in counts.items())
    return Reply(
        {**facts, "contacts": contacts} if connect else facts,
        [
            *(_advice_line(hint) for hint in hints),
            *(f"not checked: {name}, which only systemd can hand over" for name in unchecked),
            *(line for contact in contacts for line in contact.lines()),
            _verdict(file, total, [contact.place for contact in contacts if contact.failed]),
        ],
        status=next((contact.status for contact in contacts if contact.failed), 0),
    )


def _verdict(file: Path, total: str, failed: list[str]) -> str:
    """Return the last line: it says of the file alone that it has no fault where what it names is not ready."""
    well = f"no fault in {file}: {total}"
    return f"NOT READY: {', '.join(failed)}; {well}" if failed else well


@dataclass(frozen=True, slots=True)
class _Contact:
    """The answer of one database or store."""

    place: str
    """`region/label` of a database, `region on store` of a store."""
    findings: tuple[Finding, ...]
    status: int
    """The exit status when one of the findings is an error."""

    @property
    def failed(self) -> bool:
        """Say whether a finding is an error."""
        return any(finding.severity == "error" for finding in self.findings)

    def lines(self) -> Iterator[str]:
        """Yield the text for people."""
        yield f"{self.place}: {'NOT READY' if self.failed else 'ready'}"
        for finding in self.findings:
            yield f"  {finding.severity}: {finding.message}"
            if finding.hint:
                yield f"    {finding.hint}"


def _require_files(context: Context, places: Mapping[KeyPath, TextPlace], where: str) -> tuple[str, ...]:
    """Return the credentials that cannot be read here. Raises ConfigFaultsError for faults of other files."""
    from backupd.config.faults import ConfigFaultsError, in_file_order
    from backupd.config.files import file_findings, unavailable_credentials
    from backupd.wiring.daemon import timetable_findings
    from backupd.wiring.keeper import key_findings
    from backupd.wiring.status import notify_findings

    findings = list(file_findings(context.config, context.environ)) or list(key_findings(context))
    findings += [*timetable_findings(context), *notify_findings(context)]
    if findings:
        raise ConfigFaultsError(where, in_file_order(findings, places))
    return unavailable_credentials(context.config, context.environ)


def _databases(context: Context) -> Iterator[_Contact]:
    from backupd.model.findings import Severity
    from backupd.operations.preflight import UNMAPPED, check_source
    from backupd.wiring.context import source_of, tenancy_of

    for region in context.regions([]):
        for label in context.databases(region):
            incremental = context.config.regions[region].databases[label].incremental
            found = check_source(source_of(context, region, label), tenancy_of(context, region, label), incremental)
            unmapped = all(one.code == UNMAPPED for one in found if one.severity is Severity.ERROR)
            status = UnmappedError.exit_code if unmapped else SourceError.exit_code
            yield _Contact(f"{region}/{label}", found, status)


def _stores(context: Context) -> Iterator[_Contact]:
    from backupd.model.findings import Finding, Severity
    from backupd.operations.preflight import check_store
    from backupd.wiring.context import QUICKLY, given_tags, open_repository

    for region in context.regions([]):
        for store in context.stores_of(region):
            try:
                with open_repository(context, region, store, QUICKLY) as repository:
                    found = check_store(repository, given_tags(context, region))
            except StoreError as error:
                found = (Finding(Severity.ERROR, "refused", error.message, error.hint),)
            yield _Contact(f"{region} on {store}", found, StoreError.exit_code)


def example() -> None:
    """Print a commented configuration to start from.

    \b
    Example:
      backupd config example > backupd.toml
    """
    text = importlib.resources.files("backupd.config").joinpath("example.toml").read_text("utf-8")
    output.print_lines(text.splitlines())


def show(ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False) -> int:
    """Show the configuration as it is understood, defaults included.

    It holds no secrets, and files that do are named, not read. Of connection strings only host, port, database and user
    are shown.

    \b
    Example:
      backupd config show --json
    """
    from backupd.config.load import load
    from backupd.config.redact import redacted

    file = configured_file(ctx, config)
    facts = redacted(load(file))
    lines = (f"{key} = {value}" for key, value in _flat("", facts))
    return Reply({"config": str(file), "values": facts}, lines, literal=True).print(as_json=as_json)


def _counts(config: Config) -> dict[str, int]:
    return {
        "regions": len(config.regions),
        "databases": sum(len(region.databases) for region in config.regions.values()),
        "stores": len(config.stores),
        "recipients": len(config.recipients),
    }


def _advice_line(fault: ConfigFault) -> str:
    return f"advice: {fault.place}{fault.key}: {fault.message}. {fault.hint}"


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for name, below in value.items() for pair in _flat(f"{prefix}.{name}" if prefix else name, below)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [pair for index, below in enumerate(value) for pair in _flat(f"{prefix}[{index}]", below)]
    return [(prefix, value)]
