"""The options of the `restore` commands; sets of options that several commands share are declared once."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.options import AtLeastOption, ConfigOption, IdentityOption, JsonOption, PassphraseOption, StoreOption
from backupd.errors import UsageError

if TYPE_CHECKING:
    from backupd.planning.selection import Selection
    from backupd.postgres.schema.changes import SchemaChanges

RegionArgument = Annotated[str, typer.Argument(metavar="REGION", show_default=False)]
DatabaseArgument = Annotated[
    str, typer.Argument(metavar="DATABASE", show_default=False, help="The configured label of the database.")
]
AnyDatabaseArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATABASE]", help="The configured label. [default: all databases of the region]", show_default=False
    ),
]
TargetOption = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="DSN",
        show_default=False,
        help="The server to restore to, and as dbname the name of the new database.",
    ),
]
ServerOption = Annotated[
    str, typer.Option("--target", metavar="DSN", show_default=False, help="The server to restore to, without dbname.")
]
RunningOption = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="DSN",
        show_default=False,
        help="The server, and as dbname the name of the running database.",
    ),
]
PassfileOption = Annotated[
    Path | None,
    typer.Option("--passfile", metavar="FILE", show_default=False, help="The target's password file, as .pgpass."),
]
TargetDirOption = Annotated[
    Path, typer.Option("--target-dir", metavar="FOLDER", show_default=False, help="The new folder.")
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Leave the server running.")]
SuffixOption = Annotated[
    str, typer.Option("--suffix", metavar="TEXT", help="What the names of the new databases end with.")
]
GlobalsOption = Annotated[bool, typer.Option("--globals", help="Make roles that the server does not have.")]
WithoutBrokenKeysOption = Annotated[
    bool,
    typer.Option(
        "--without-broken-keys",
        help="Where rows refer to rows that are left out, have such foreign keys hold for new rows only; they are "
        "listed by name.",
    ),
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Tables and indexes at once.")]
AnalyzeOption = Annotated[bool, typer.Option("--analyze", help="Gather statistics before handing it over.")]
MemberOption = Annotated[
    str | None,
    typer.Option(
        "--member", metavar="NAME", show_default=False, help="Which database, where the label stands for several."
    ),
]


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """The options that name a snapshot, its store and its identity: every command but `clean` has these."""

    snapshot: Annotated[
        str,
        typer.Option("--snapshot", metavar="ID|TIME|latest", help="Its name's beginning, or the newest at a time."),
    ] = "latest"
    store: StoreOption = None
    ledger_at_least: AtLeastOption = None
    identity: IdentityOption = None
    passphrase_file: PassphraseOption = None
    override: Annotated[
        str | None,
        typer.Option(
            "--override",
            metavar="REFERENCE",
            show_default=False,
            help="Of the decision that allows the region's rows on this machine, where its locations do not.",
        ),
    ] = None
    config: ConfigOption = None
    as_json: JsonOption = False


KeepGoingOption = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="Leave out and name what PostgreSQL refuses, restore the rest, and exit with 4 if anything was left out.",
    ),
]


@dataclass(frozen=True, slots=True)
class ChangeOptions:
    """The options that make owners, privileges, tablespaces and roles others than they were."""

    no_owner: Annotated[bool, typer.Option("--no-owner", help="Give everything to the user of the target.")] = False
    no_acl: Annotated[bool, typer.Option("--no-acl", help="Leave out all privileges.")] = False
    no_tablespaces: Annotated[
        bool, typer.Option("--no-tablespaces", help="Put everything into the default tablespace.")
    ] = False
    tablespace_map: Annotated[
        list[str] | None,
        typer.Option(
            "--tablespace-map",
            metavar="OLD=NEW",
            show_default=False,
            help="Put what was in tablespace OLD into NEW; may be repeated.",
        ),
    ] = None
    role_map: Annotated[
        list[str] | None,
        typer.Option(
            "--role-map",
            metavar="OLD=NEW",
            show_default=False,
            help="Give role NEW what role OLD owns and may do; may be repeated.",
        ),
    ] = None

    def changes(self) -> SchemaChanges:
        """Return the changes that are asked for. Raises UsageError for a pair that is none."""
        from backupd.postgres.schema.changes import SchemaChanges

        return SchemaChanges(
            self.no_owner,
            self.no_acl,
            self.no_tablespaces,
            _pairs("--tablespace-map", self.tablespace_map),
            _pairs("--role-map", self.role_map),
        )


def _pairs(option: str, given: Iterable[str] | None) -> dict[str, str]:
    pairs = [one.partition("=") for one in given or ()]
    if not all(old and new for old, _, new in pairs):
        raise UsageError(f"{option} takes pairs", hint=f"As in {option} old_name=new_name.")
    return {old: new for old, _, new in pairs}


@dataclass(frozen=True, slots=True)
class PartOptions:
    """The options that choose a part of one database's snapshot; without any, all of it is restored."""

    tenant: Annotated[
        list[str] | None,
        typer.Option(
            "--tenant",
            metavar="TENANT",
            show_default=False,
            help="Only this tenant, with the shared rows; may be repeated. - reads names from standard input.",
        ),
    ] = None
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table",
            metavar="PATTERN",
            show_default=False,
            help="Only rows of these tables, as in public.note or billing.*; may be repeated. The structure is whole, "
            "but for foreign keys.",
        ),
    ] = None
    data_class: Annotated[
        list[str] | None,
        typer.Option(
            "--class", metavar="CLASS", show_default=False, help="Only rows of this data class; may be repeated."
        ),
    ] = None
    member: MemberOption = None

    def selection(self, database: str | None) -> Selection:
        """Return the part of a database that is asked for; None stands for all databases of a region, which are whole.

        Raises UsageError when a part of a region is asked for.
        """
        from backupd.planning.selection import Selection

        if database is None:
            self._refuse()
        return Selection(tenant_names(self.tenant or ()), frozenset(self.data_class or ()), tuple(self.table or ()))

    def _refuse(self) -> None:
        options = {"--tenant": self.tenant, "--table": self.table, "--class": self.data_class, "--member": self.member}
        given = [name for name, value in options.items() if value]
        if given:
            raise UsageError(f"{given[0]} goes with a DATABASE", hint="Without one, all of the region are meant.")


def tenant_names(given: Iterable[str]) -> frozenset[str]:
    """Return the tenants that are named; `-` stands for the lines of standard input."""
    read = [line.rstrip("\n") for line in sys.stdin] if "-" in given else []
    return frozenset(name for name in [*given, *read] if name not in ("-", ""))
