"""The script that makes a role to restore by: a superuser runs it, and its names come from the snapshot."""

from __future__ import annotations

import pytest

from backupd.cli.commands.restore.preview import _restorer_lines
from backupd.cli.output import print_lines
from backupd.postgres.target.restorer import Restorer


def test_no_name_of_a_snapshot_becomes_a_statement(capsys: pytest.CaptureFixture[str]) -> None:
    """An owner may have any name, line breaks included: what is said of it stays a comment of one line."""
    odd = "pg_odd\nSELECT 1;\r\n\\echo"
    print_lines(_restorer_lines(Restorer("restorer", ('CREATE ROLE "restorer";',), (odd,), (odd,))))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line and not line.startswith("--")] == ['CREATE ROLE "restorer";']
    assert sum("SELECT 1;" in line for line in lines) == 2
