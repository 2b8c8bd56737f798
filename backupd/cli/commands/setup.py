"""The commands `setup`, `tenancy` and `init`, which come before the first backup."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    DatabaseOption,
    JsonOption,
    RegionArgument,
    configured_file,
    load_context,
)
from backupd.cli.run import Reply, for_each
from backupd.cli.tenancy_lines import tenancy_lines
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import ConfigError, UnmappedError, UsageError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.operations.init import Founder, Initialised
    from backupd.wiring.context import Context


def add(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("setup", epilog=EXIT_STATUS)(setup)
    app.command("init", epilog=EXIT_STATUS)(init)
    app.command("tenancy", epilog=EXIT_STATUS)(tenancy)


def tenancy(
    ctx: typer.Context,
    region: RegionArgument = None,
    database: DatabaseOption = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print only what is left to decide, as a block of the configuration.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show how every table is mapped to tenants and data classes, and what is left to decide.

    A table belongs to tenants by a column, by following foreign keys to one, or by its schema or database; or it is
    shared. For a table that nothing covers, the ways to a tenant are shown, with the rows that each leads to one, and
    what speaks against it. Rows without a tenant are counted where there may be some; of large tables a sample is. The
    exit status says whether anything is left to decide: a backup would refuse it.

    \b
    Examples:
      backupd tenancy be
      backupd tenancy be --toml
    """
    from backupd.operations.preflight import missing_for_unread
    from backupd.operations.tenancy.block import toml_block
    from backupd.operations.tenancy.report import report_tenancy
    from backupd.wiring.context import source_of, tenancy_of

    context = load_context(ctx, config)

    def explain(place: tuple[RegionName, str]) -> Reply:
        name, label = place
        incremental = context.config.regions[name].databases[label].incremental
        with counted_seconds(f"reading the tables of {name}/{label}", quiet=as_json):
            report = report_tenancy(label, source_of(context, name, label), tenancy_of(context, name, label))
            lacking = missing_for_unread(source_of(context, name, label), incremental)
        status = 0 if report.complete else UnmappedError.exit_code
        lines = toml_block(name, report) if toml else tenancy_lines(name, report, lacking)
        return Reply({"region": name, "tenancy": report, "unread": lacking}, lines, status=status, literal=toml)

    places = [(name, label) for name in context.regions(region or []) for label in context.databases(name, database)]
    return for_each(places, explain, as_json=as_json).finish("databases")


def init(
    ctx: typer.Context, region: RegionArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> int:
    """Make the repository of each region on its stores.

    Each store is tried out first: does a rename refuse a taken name, can it sync, hash and say its space, does it keep
    snapshots of its own, does it let anything be removed? What is found is kept in the repository, signed. A folder
    that holds anything else, or another's repository, is refused before anything is written; a store that was added to
    the region, or missed when init was cut off, joins the region's repository.

    \b
    Example:
      backupd init be
    """
    from backupd.wiring.backup import repository_founder

    context = load_context(ctx, config)
    founder = repository_founder(context)

    def make(name: RegionName) -> Reply:
        with counted_seconds(f"trying out the stores of {name}", quiet=as_json):
            stores = _made(context, name, founder)
        return Reply({"region": name, "stores": stores}, (line for one in stores for line in _made_lines(name, one)))

    return for_each(context.regions(region or []), make, as_json=as_json).finish("regions")


def _made(context: Context, region: RegionName, founder: Founder) -> list[Initialised]:
    from backupd.operations.init import NamedStore, initialise
    from backupd.wiring.context import QUICKLY, open_store

    with contextlib.ExitStack() as stack:
        places = [
            NamedStore(store, stack.enter_context(contextlib.closing(open_store(context, region, store, QUICKLY))))
            for store in context.stores_of(region)
        ]
        return initialise(region, places, founder)


def _made_lines(region: str, one: Initialised) -> list[str]:
    if not one.created:
        there = f"{region} on {one.store}: repository {one.repository} was there already"
        return [there, *_help_lines(one), *output.unnamed_lines(one.unnamed_keepers)]
    abilities = (f"{name} {_ability(value)}" for name, value in one.profile.items())
    made = f"{region} on {one.store}: made repository {one.repository}"
    return [made, f"  {', '.join(abilities)}", *_help_lines(one)]


def _help_lines(one: Initialised) -> list[str]:
    """Return a line with what has to be known of `recover` before anybody runs it, for the store may be hostile."""
    sha256 = one.help.get("recover")
    return [f"  keep with the identities: SHA-256 of recover is {sha256}"] if sha256 else []


def _ability(value: object) -> object:
    if isinstance(value, dict):
        return value.get("command")
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    return value


def setup(ctx: typer.Context, config: ConfigOption = None) -> int:
    """Ask for everything that the first backup needs, make the keys, and write the configuration.

    It looks into the database and proposes how each table belongs to tenants, reads the key of the store's server and
    shows its fingerprint to compare, tries everything as `config check --connect` does, and says what belongs in
    escrow. Files are put in place at the end, all or none, and none is overwritten, but for the example that
    `scripts/install` puts. Everything it does can be done by hand: `backupd manual service`.

    \b
    Example:
      backupd setup
    """
    from backupd.cli.wizard.places import places_of
    from backupd.cli.wizard.run import set_up
    from backupd.new_files import NewFiles

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("setup asks questions at a terminal", hint="By hand, without one: `backupd manual service`.")
    places = places_of(configured_file(ctx, config))
    places.require_free()
    try:
        with NewFiles(places.home) as files:
            set_up(places, files)
    except OSError as error:
        raise ConfigError(
            f"the files cannot be put into '{places.home}' ({error.strerror}); none of them was",
            hint="Run it as the user who may write there, or name another file with --config.",
        ) from error
    return 0
