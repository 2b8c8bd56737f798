"""The command `doctor`, which looks at everything that this machine can see of itself, and says what to do."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, configured_file
from backupd.cli.run import Reply
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import ConfigError, RefusedError, SourceError, StoreError, UnmappedError
from backupd.model.diagnosis import Diagnosis, DiagnosisArea, DiagnosisResult

if TYPE_CHECKING:
    from backupd.config.faults import ConfigFault

_MARKS = {
    DiagnosisResult.FAULT: "FAULT",
    DiagnosisResult.ADVICE: "advice",
    DiagnosisResult.UNSEEN: "unseen",
    DiagnosisResult.WELL: "well",
}
_COUNTED = {
    DiagnosisResult.FAULT: ("fault", "faults"),
    DiagnosisResult.ADVICE: ("piece of advice", "pieces of advice"),
    DiagnosisResult.UNSEEN: ("not looked at", "not looked at"),
    DiagnosisResult.WELL: ("well", "well"),
}
_STATUS = {
    DiagnosisArea.DATABASES: SourceError.exit_code,
    DiagnosisArea.STORES: StoreError.exit_code,
    DiagnosisArea.CLOCKS: RefusedError.exit_code,
}
"""The exit status of a fault in each area; every other area is the configuration's or this machine's."""


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("doctor", epilog=EXIT_STATUS)(doctor)


def doctor(
    ctx: typer.Context,
    region: RegionArgument = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Also try stores by writing: what they can do, and their time.")
    ] = False,
    notify: Annotated[
        bool, typer.Option("--notify", help="Also send a test message to everybody who is notified.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Look at everything that this machine can see of itself, and say what to do about each fault.

    Configuration and keys, the credentials of each unit, folders and programs, clocks, databases and the role in them,
    stores and their restrictions, timetables against promises, and who is notified. What this user may not look at is
    said, and never counts as well: root sees what each unit was given, `backupd-as node doctor` what one can do with
    it. Nothing is changed or written, but by --probe on stores. How backups stand, `backupd status` says.

    The exit status is that of the first fault. Advice, and what was not looked at, leave it 0.

    \b
    Examples:
      backupd doctor
      backupd doctor --notify
    """
    with counted_seconds("looking at everything", quiet=as_json):
        found = list(_diagnoses(configured_file(ctx, config), region or [], probe=probe, notify=notify))
    counts = {result: sum(one.result is result for one in found) for result in DiagnosisResult}
    return Reply(
        {"diagnoses": found, "counts": counts},
        _lines(found),
        status=next((_status(one) for one in found if one.result is DiagnosisResult.FAULT), 0),
    ).print(as_json=as_json)


def _diagnoses(file: Path, regions: Sequence[str], *, probe: bool, notify: bool) -> Iterator[Diagnosis]:
    from backupd.config.faults import ConfigFaultsError
    from backupd.config.load import load
    from backupd.wiring.context import Context
    from backupd.wiring.doctor import Examination

    try:
        context = Context(load(file), os.environ)
    except ConfigFaultsError as error:
        yield from (_of_fault(str(file), fault) for fault in error.faults)
    except ConfigError as error:
        yield _configuration(str(file), DiagnosisResult.FAULT, error.message, error.hint)
    else:
        yield _configuration(str(file), DiagnosisResult.WELL, "every key and value is known")
        chosen = context.regions(regions)
        yield from Examination(context, file.absolute().parent / "credentials", chosen, probe, notify).run()
        return
    yield _configuration("everything else", DiagnosisResult.UNSEEN, "without a configuration nothing can be looked at")


def _of_fault(file: str, fault: ConfigFault) -> Diagnosis:
    place = ", ".join(filter(None, (fault.file or file, f"line {fault.line}" if fault.line else "")))
    message = f"{fault.key}: {fault.message}" if fault.key else fault.message
    return _configuration(place, DiagnosisResult.FAULT, message, fault.hint or "`backupd manual configuration`")


def _configuration(place: str, result: DiagnosisResult, message: str, hint: str = "") -> Diagnosis:
    area = DiagnosisArea.CONFIGURATION
    return Diagnosis(area=area, place=place, result=result, message=message, hint=hint)


def _status(one: Diagnosis) -> int:
    if one.code == "unmapped":
        return UnmappedError.exit_code
    return _STATUS.get(one.area, ConfigError.exit_code)


def _lines(found: Sequence[Diagnosis]) -> Iterator[str]:
    for area in DiagnosisArea:
        some = [one for one in found if one.area is area]
        if some:
            yield f"{area}"
            yield from _area_lines(some)
    counts = Counter(one.result for one in found)
    yield ", ".join(
        f"{number} {_COUNTED[result][number != 1]}" for result in DiagnosisResult if (number := counts[result])
    )


def _area_lines(some: Iterable[Diagnosis]) -> Iterator[str]:
    for one in sorted(some, key=lambda one: list(DiagnosisResult).index(one.result)):
        yield f"  {_MARKS[one.result]:<6}  {one.place}: {one.message}"
        if one.hint:
            yield f"          {one.hint}"
