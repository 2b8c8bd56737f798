"""Timetables in the configuration: what is refused because it cannot keep a promise, and what a machine would do."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from doubles.samples.example_config import EXAMPLE

from backupd.config.faults import ConfigFaultsError
from backupd.config.load import parse
from backupd.config.redact import redacted
from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.model.timetables import Every
from backupd.operations.service.jobs import JobKind
from backupd.wiring.context import Context
from backupd.wiring.daemon import schedule_of, service_plan, timetable_advice, timetable_findings, timetable_of

WHOLE = re.sub(r"^# (?=\[\[?[a-z]+\]|[a-z_]+ += )", "", EXAMPLE, flags=re.MULTILINE)
BE = RegionName("be")


def context(*changes: tuple[str, str], environ=None) -> Context:
    text = WHOLE
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return Context(parse(text, "example.toml"), environ or {})


def findings(*changes: tuple[str, str]) -> list[tuple[str, str]]:
    return [(".".join(path), message) for path, message, _ in timetable_findings(context(*changes))]


def test_the_example_keeps_its_promises():
    """Nothing is refused and nothing advised."""
    assert findings() == []
    assert list(timetable_advice(context())) == []


@pytest.mark.parametrize(
    ("change", "where", "promise"),
    [
        (('backup = "every 6h"', 'backup = "every 27h"'), "regions.be.schedule.backup", "objectives.rpo is 26 h"),
        (('purge = "daily 03:30"', 'purge = "weekly sun 03:30"'), "schedule.purge", "lifecycle.expiry_gap is 2 d"),
        (('expire = "daily 04:00"', 'expire = "every 3d"'), "schedule.expire", "lifecycle.expiry_gap is 2 d"),
        (('drill = "weekly sun 06:00"', 'drill = "every 8d"'), "schedule.drill", "objectives.drill_every is 7 d"),
        (('rpo = "26h"', 'rpo = "5h"'), "regions.be.schedule.backup", "objectives.rpo is 5 h"),
    ],
)
def test_timetables_that_cannot_keep_a_promise_are_told(change, where, promise):
    """By the key that is written, with how long it leaves between two runs, and what was promised."""
    ((key, message),) = findings(change)

    assert key == where
    assert "leaves up to" in message
    assert message.endswith(promise)


def test_an_hour_of_daylight_saving_counts():
    """Daily in Brussels is 25 hours apart once a year: a promise of 24 cannot be kept."""
    daily = ('backup = "every 6h"', 'backup = "daily 01:30"')

    assert findings(daily, ('rpo = "26h"', 'rpo = "25h"')) == []
    assert "leaves up to 25 h" in findings(daily, ('rpo = "26h"', 'rpo = "24h"'))[0][1]


def test_what_is_never_due_is_advised_about():
    """Something else may run it."""
    hints = list(timetable_advice(context(('purge = "daily 03:30"', 'purge = "never"'))))

    assert [(".".join(path), message) for path, message, _ in hints] == [
        ("schedule.purge", "purge is never due by itself")
    ]
    assert findings(('purge = "daily 03:30"', 'purge = "never"')) == []


def test_who_is_no_keeper_is_not_asked_for_its_timetables():
    """A writer's machine promises no removals."""
    config = parse(EXAMPLE.replace('purge = "daily 03:30"', 'purge = "weekly sun 03:30"'), "example.toml")

    assert config.keeper is None
    assert list(timetable_findings(Context(config, {}))) == []


def test_a_region_overrides_one_timetable_at_a_time():
    """What it does not say holds as for all."""
    zoned = context(('backup = "every 6h"', 'backup = "every 6h"\nzone = "UTC"'))

    assert timetable_of(zoned, BE, JobKind.BACKUP) == Every(timedelta(hours=6))
    assert timetable_of(zoned, BE, JobKind.VERIFY).zone == "UTC"
    assert schedule_of(zoned, BE).verify_share == "10%"
    assert redacted(zoned.config)["regions"]["be"]["schedule"]["backup"] == "every 6h"
    assert redacted(zoned.config)["schedule"]["drill"] == "weekly sun 06:00"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"daily 01:30"', '"daily 1:30"'), "has no time of day"),
        (('verify_share = "10%"', 'verify_share = "110%"'), 'must be "all", "none" or a whole percentage'),
        (('zone = "Europe/Brussels"', 'zone = "Europe/Brusels"'), "has no known time zone"),
        (("heavy = 2", "heavy = 0"), "must be at least 1"),
        (('sync = "every 1h"', 'synk = "every 1h"'), "unknown key"),
    ],
)
def test_faults_have_their_line(change, message):
    """As everywhere in the file."""
    old, new = change
    with pytest.raises(ConfigFaultsError) as caught:
        parse(WHOLE.replace(old, new, 1), "example.toml")
    (fault,) = caught.value.faults

    assert message in fault.message
    assert new in WHOLE.replace(old, new, 1).splitlines()[fault.line - 1]


def test_a_machine_without_a_role_does_not_start():
    """Looking alone is no work; asked for what it is not set up for, it says what that needs."""
    text = re.sub(r"^signing_key_file.*\n", "", EXAMPLE, flags=re.MULTILINE)
    text = text.replace('"credential:store.key"', '"/dev/null"').replace('verify = "daily 05:00"', 'verify = "never"')
    machine = Context(parse(text, "example.toml"), {})
    with pytest.raises(ConfigError, match='not set up for "backup"'):
        service_plan(machine, [BE], [JobKind.BACKUP], spread=None)
    with pytest.raises(ConfigError, match="nothing to do for a daemon"):
        service_plan(machine, [BE], [], spread=None)
    assert [job.key.kind for job in service_plan(machine, [BE], [JobKind.OBSERVE], spread=None).jobs] == [
        JobKind.OBSERVE
    ]
