"""An identity in the hands of several: split into pages of words, lost, and put together again under pressure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doubles.paths import RECOVER, ROOT
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts

from backupd.model.tenancy import SegmentName
from backupd.operations.keys import split_identity
from backupd.seal import keyfiles, suite
from backupd.store.directory import DirectoryStore

PASSPHRASE = "a passphrase of old"
PAIR = suite.generate()


def command(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "backupd", "key", "escrow", *arguments],
        cwd=folder, env=environment, input=given or "", capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An identity and its passphrase, and another passphrase."""
    keyfiles.write_identity(tmp_path / "escrow.identity", "escrow", PAIR, PASSPHRASE)
    keyfiles.write_recipient(tmp_path / "escrow.recipient", keyfiles.Recipient("escrow", PAIR.public))
    (tmp_path / "old").write_text(PASSPHRASE + "\n")
    (tmp_path / "new").write_text("another passphrase\n")
    return tmp_path


SPLIT = ("split", "--identity", "escrow.identity", "--shares", "3", "--threshold", "2", "--passphrase-file")


def test_by_commands(folder: Path) -> None:
    """Split, lost, combined under a new passphrase; files are their owner's, no output holds a word of them."""
    done = command(folder, *SPLIT, "old", "--out", "shares", "--json")
    assert done.returncode == 0, done.stderr
    files = [folder / name for name in json.loads(done.stdout)["files"]]
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 3
    again = command(folder, *SPLIT, "old", "--out", "shares")
    assert (again.returncode, "never overwritten" in again.stderr) == (10, True)
    (folder / "escrow.identity").unlink()
    few = command(folder, "combine", str(files[2]), "--out", "escrow.identity", "--passphrase-file", "new")
    assert (few.returncode, (folder / "escrow.identity").exists()) == (8, False)
    both = [str(file) for file in files[1:]]
    made = command(folder, "combine", *both, "--out", "escrow.identity", "--passphrase-file", "new")
    assert made.returncode == 0, made.stderr
    assert keyfiles.read_identity(folder / "escrow.identity", "another passphrase") == PAIR
    words = set(re.findall(r"\d+\. (\w+)", "".join(file.read_text() for file in files)))
    assert not words & set((done.stdout + again.stderr + few.stderr + made.stdout).split())


def test_a_wrong_passphrase_makes_no_share(folder: Path) -> None:
    """It is called so, and nothing is written or printed."""
    done = command(folder, *SPLIT, "new", "--out", "shares")
    assert (done.returncode, "does not open the identity" in done.stderr) == (8, True)
    assert not (folder / "shares").exists()


def test_printed_and_typed_in_again(folder: Path) -> None:
    """What `--print` shows can be given back on standard input."""
    printed = command(folder, *SPLIT, "old", "--print")
    assert (printed.returncode, printed.stdout.count("\f")) == (0, 2)
    typed = "\n".join(printed.stdout.split("\f")[::2])
    wanted = ("--recipient", "escrow.recipient", "--out", "again.identity", "--passphrase-file", "new")
    done = command(folder, "combine", "-", *wanted, given=typed)
    assert done.returncode == 0, done.stderr
    assert keyfiles.read_identity(folder / "again.identity", "another passphrase") == PAIR
    assert command(folder, *SPLIT, "old").returncode == 2
    assert command(folder, *SPLIT, "old", "--print", "--json").returncode == 2


def test_recover_takes_shares(tmp_path: Path) -> None:
    """Where only the store and the paper are left; too few are refused, and none is repeated; more than needed do."""
    (tmp_path / "store").mkdir()
    small = SmallRepository(DirectoryStore(tmp_path / "store" / "be"))
    rows = Rows("public", "note", ("id",), (b"1\n", b"2\n"))
    small.snapshot({SegmentName("app", "structure", None): Content(tables=(rows,), facts=facts())})
    pages = split_identity(small.identity.secret, 3, 2)[1]
    for number, page in enumerate(pages):
        (tmp_path / f"{number}.txt").write_text(page)

    def recover(*names: str, out: str = "out") -> subprocess.CompletedProcess[str]:
        shares = [argument for name in names for argument in ("--share", name)]
        script = [sys.executable, RECOVER, "store", *shares, "--out", out]
        return subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)

    few = recover("2.txt")
    assert (few.returncode, "restore nothing" in few.stderr) == (8, True)
    assert not set(re.findall(r"\d+\. (\w+)", pages[2])[:4]) & set(few.stderr.split())
    twice = recover("2.txt", "2.txt")
    assert (twice.returncode, "restore nothing" in twice.stderr) == (8, True)
    for out, names in (("out", ("2.txt", "0.txt")), ("all", ("2.txt", "2.txt", "0.txt", "1.txt"))):
        done = recover(*names, out=out)
        assert done.returncode == 0, done.stderr
        assert any(file.read_bytes() == b"1\n2\n" for file in (tmp_path / out).rglob("*") if file.is_file())
