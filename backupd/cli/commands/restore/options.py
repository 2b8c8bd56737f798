"""The options of `restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RegionArgument = Annotated[str, typer.Argument(metavar="REGION", show_default=False)]
DatabaseArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[DATABASE]", help="The configured label. [default: all databases of the region]", show_default=False
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="DSN",
        show_default=False,
        help="The server to restore to, and as dbname the name of the new database, or of the running one.",
    ),
]
TargetDirOption = Annotated[
    Path | None,
    typer.Option(
        "--target-dir",
        metavar="FOLDER",
        show_default=False,
        help="Write plain files that psql loads into this new folder, not encrypted.",
    ),
]
ScratchOption = Annotated[
    Path | None,
    typer.Option(
        "--scratch",
        metavar="FOLDER",
        show_default=False,
        help="Make a server of its own in this new folder, on a unix socket only, and restore into that.",
    ),
]
KeepOption = Annotated[bool, typer.Option("--keep", help="With --scratch: leave the server running.")]
SuffixOption = Annotated[
    str | None,
    typer.Option(
        "--suffix",
        metavar="TEXT",
        show_default=False,
        help="For a region: what the names of its new databases end with. [default: _restored on a --target]",
    ),
]
SnapshotOption = Annotated[
    str,
    typer.Option("--snapshot", metavar="ID|TIME|latest", help="Its name's beginning, or the newest at a time."),
]
TenantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tenant",
        metavar="TENANT",
        show_default=False,
        help="Only this tenant, with the shared rows; may be repeated. - reads names from standard input.",
    ),
]
TableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        metavar="PATTERN",
        show_default=False,
        help="Only rows of these tables, as in public.note or billing.*; may be repeated. The structure is whole, "
        "but for foreign keys.",
    ),
]
DataClassOption = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="CLASS", show_default=False, help="Only rows of this data class; likewise."),
]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Say what would be fetched and written, and how long it should take.")
]
RunbookOption = Annotated[
    bool,
    typer.Option("--runbook", help="Print what to do, step by step, with this snapshot's sizes, to keep."),
]
OverrideOption = Annotated[
    str | None,
    typer.Option(
        "--override",
        metavar="REFERENCE",
        show_default=False,
        help="Of the decision that allows the region's rows on this machine, where its locations do not.",
    ),
]
CleanOption = Annotated[
    bool,
    typer.Option(
        "--clean", help="Remove what killed restores left on the target's server, or beside the folder, and no more."
    ),
]
GlobalsOption = Annotated[bool, typer.Option("--globals", help="Make roles that the server does not have.")]
WithoutBrokenKeysOption = Annotated[
    bool,
    typer.Option(
        "--without-broken-keys",
        help="Where rows refer to rows that are left out, have such foreign keys hold for new rows only; told by name.",
    ),
]
MemberOption = Annotated[
    str | None,
    typer.Option(
        "--member", metavar="NAME", show_default=False, help="Which database, where the label stands for several."
    ),
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Tables and indexes at once.")]
AnalyzeOption = Annotated[bool, typer.Option("--analyze", help="Gather statistics before handing it over.")]
PassfileOption = Annotated[
    Path | None,
    typer.Option("--passfile", metavar="FILE", show_default=False, help="The target's password file, as .pgpass."),
]
InPlaceOption = Annotated[
    bool, typer.Option("--in-place", help="Compare one --tenant with its rows in the running database --target.")
]
ApplyOption = Annotated[bool, typer.Option("--apply", help="With --in-place: back up, then write, not only compare.")]
NoBackupBeforeOption = Annotated[
    str | None,
    typer.Option(
        "--no-backup-before",
        metavar="REFERENCE",
        show_default=False,
        help="With --apply: do not back up first; where it is written down why, or what did.",
    ),
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--accept",
        metavar="CONFLICT",
        show_default=False,
        help="With --in-place: table-new, shared-row-changed or deferrable-key need not stop it; may be repeated.",
    ),
]
TriggersFireOption = Annotated[
    bool, typer.Option("--triggers-fire", help="With --in-place: let triggers and rules act.")
]
KeysFileOption = Annotated[
    Path | None,
    typer.Option(
        "--keys-file",
        metavar="FILE",
        show_default=False,
        help="With --in-place: write the keys of rows that differ into this new file.",
    ),
]
