"""The configuration of drills has defaults, and contradictions in it are reported."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from doubles.samples.example_config import EXAMPLE

from backupd.config.checks import advice
from backupd.config.faults import ConfigFaultsError
from backupd.config.files import file_findings
from backupd.config.load import parse

WHOLE = re.sub(r"^# (?=\[+[a-z.]+\]|[a-z_]+ += )", "", EXAMPLE, flags=re.MULTILINE)


def faults(old: str, new: str) -> list[tuple[str, str]]:
    assert old in WHOLE
    with pytest.raises(ConfigFaultsError) as caught:
        parse(WHOLE.replace(old, new, 1), "example.toml")
    return [(fault.key, fault.message) for fault in caught.value.faults]


def test_the_example_drills() -> None:
    """Commented out it does not; with the comments taken away it says all there is."""
    assert parse(EXAMPLE, "x").drill is None
    drill = parse(WHOLE, "x").drill
    assert drill is not None
    assert (drill.damage_every, drill.max_size, drill.restore_limit) == (10, 256 << 30, timedelta(hours=12))
    (assertion,) = parse(EXAMPLE, "x").regions["be"].assertions
    assert (assertion.name, assertion.exact, assertion.minimum) == ("has-tenants", None, 1)


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ('name = "has-tenants"', 'name = "Has tenants"', "regions.be.assertions[0].name", "must be 1 to 40 of"),
        ("minimum = 1 ", "# ", "regions.be.assertions[0]", "needs exact or minimum"),
        (
            'name = "has-tenants"\ndatabase = "app"',
            'name = "a"\ndatabase = "apq"',
            "regions.be.assertions[0].database",
            "this region has no database",
        ),
        (
            "SELECT count(*) FROM public.tenant",
            "DELETE FROM public.tenant",
            "regions.be.assertions[0].sql",
            "must be one SELECT",
        ),
        ("escrow_passphrase_file =", "# ", "drill", "needs both of escrow_identity and"),
        ('max_size = "256GiB"', 'max_size = "1MB"', "drill.max_size", "must be at least 1024MiB"),
        ('restore_limit = "12h"', 'restore_limit = "0s"', "drill.restore_limit", "must be at least 1s"),
        ("damage_every = 10", "damage_every = -1", "drill.damage_every", "must be at least 0"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_drills_is_told(old: str, new: str, key: str, message: str) -> None:
    """By its key, and nothing else is."""
    ((where, said),) = faults(old, new)
    assert where == key
    assert message.split(maxsplit=1)[0] in said


TARGETS = {
    "the address of a database": ("host=db1.example dbname=backupd_drill", "is the server of"),
    "one of its hosts": ("host=db7.example,db1.example", "is the server of"),
    "the same as a URI": ("postgresql://postgres@DB1.example:5432/backupd_drill", "is the server of"),
    "by a service": ("service=app", "is the server of"),
    "another database": ("host=drills.example dbname=app", "names another database"),
    "a URI of another database": ("postgresql://drills.example/app", "names another database"),
}
USED = 'dsn = "host=db1.example,db2.example port=5432 dbname=app user=backupd"'


@pytest.mark.parametrize("what", TARGETS)
def test_a_target_that_a_backup_reads_is_refused(what: str) -> None:
    """Where the text shows it, however it is written: nobody needs to start a drill to learn it."""
    target, message = TARGETS[what]
    used = 'service = "app"' if target.startswith("service") else USED
    text = re.sub(r'^dsn = "[^"]*"', used, WHOLE, count=1, flags=re.MULTILINE)
    text = re.sub(r'^target_dsn = "[^"]*"', f'target_dsn = "{target}"', text, flags=re.MULTILINE)
    assert used in text
    with pytest.raises(ConfigFaultsError) as caught:
        parse(text, "example.toml")
    ((where, said),) = {(fault.key, fault.message.split(" regions")[0]) for fault in caught.value.faults}
    assert where == "drill.target_dsn"
    assert message in said


def test_a_target_apart_is_taken() -> None:
    """On another host, or on another port of the same; two ways to name it are one too many."""
    for target in ("host=drills.example port=5432", "host=db1.example port=5433", "postgresql://drills.example"):
        text = re.sub(r'^target_dsn = "[^"]*"', f'target_dsn = "{target}"', WHOLE, flags=re.MULTILINE)
        drill = parse(text, "x").drill
        assert drill is not None
        assert drill.target == target
    both = re.sub(r"^(target_dsn = .*)$", r'\1\ntarget_service = "drills"', WHOLE, flags=re.MULTILINE)
    with pytest.raises(ConfigFaultsError) as caught:
        parse(both, "x")
    assert [fault.message for fault in caught.value.faults] == [
        "has both of target_dsn and target_service; a drill has one target"
    ]


def test_objectives_without_an_approval_are_told() -> None:
    """Reports repeat who approved them."""
    told = {".".join(map(str, path)) for path, _, _ in advice(parse(re.sub(r"(?m)^approval = .*$", "", EXAMPLE), "x"))}
    assert "regions.be.objectives" in told
    assert "regions.be.objectives" not in {".".join(map(str, path)) for path, _, _ in advice(parse(EXAMPLE, "x"))}


def test_two_assertions_of_one_name_are_told() -> None:
    """Their names are all that a report says of them."""
    one = '[[regions.be.assertions]]\nname = "has-tenants"\ndatabase = "app"\nsql = "SELECT 1"\nexact = 1\n'
    ((where, said),) = faults("# Tenancy by column", f"{one}\n# Tenancy by column")
    assert where == "regions.be.assertions[1].name"
    assert "another assertion" in said


def test_files_of_a_drill_are_looked_at(tmp_path: Path) -> None:
    """The identity is a secret, as its passphrase is, and a target's passwords."""
    for name in ("drill.identity", "drill.passphrase", "escrow.identity", "escrow.passphrase", "drill-pgpass"):
        (tmp_path / name).touch(mode=0o644)
    found = {
        ".".join(map(str, path))
        for path, _, _ in file_findings(parse(WHOLE, "x"), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    }
    files = "identity", "passphrase_file", "escrow_identity", "escrow_passphrase_file", "target_passfile"
    assert found >= {f"drill.{name}" for name in files}
