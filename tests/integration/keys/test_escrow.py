"""An identity in the hands of several: split into pages of words, lost, and put together again under pressure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
from doubles.paths import RECOVER, ROOT
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts

from backupd.errors import KeyRefusedError, RefusedError, UsageError
from backupd.model.tenancy import SegmentName
from backupd.operations.keys import ShareText, combine_shares, split_identity
from backupd.seal import escrow, keyfiles, suite
from backupd.store.directory import DirectoryStore

PASSPHRASE = "a passphrase of old"
PAIR = suite.generate()
MADE, PAGES = split_identity(PAIR.secret, 4, 3)
OTHERS = split_identity(suite.generate().secret, 3, 2)[1]


def texts(*pages: str) -> list[ShareText]:
    return [ShareText(f"page {number}", page) for number, page in enumerate(pages, start=1)]


def changed(page: str, number: int, word: str) -> str:
    """The page with one word in the place of another."""
    assert f"{number:>3}. " in page
    return re.sub(rf"(?<!\d){number}\. \w+", f"{number}. {word}", page)


def word(page: str, number: int) -> str:
    return re.findall(rf"(?<!\d){number}\. (\w+)", page)[0]


def test_any_three_restore_it() -> None:
    """Whichever, in whatever order, and all four as well."""
    for some in [*combinations(PAGES, 3), PAGES, PAGES[::-1]]:
        assert combine_shares(texts(*some), None) == PAIR


def test_two_are_too_few_also_when_one_is_given_twice() -> None:
    """It says how many are missing."""
    with pytest.raises(KeyRefusedError, match="2 shares are given, and 3 are needed"):
        combine_shares(texts(*PAGES[:2]), None)
    with pytest.raises(KeyRefusedError, match="2 shares are given") as refused:
        combine_shares(texts(PAGES[0], PAGES[1], PAGES[0]), None)
    assert "twice counts once" in refused.value.hint


def test_shares_of_two_sets_are_told_apart() -> None:
    """Also of two splits of one identity; the share that does not belong is named."""
    with pytest.raises(KeyRefusedError, match="'page 3' belongs to another set of shares than 'page 1'"):
        combine_shares(texts(*PAGES[:2], OTHERS[0]), None)
    again = split_identity(PAIR.secret, 4, 3)[1]
    with pytest.raises(KeyRefusedError, match="another set"):
        combine_shares(texts(PAGES[0], PAGES[1], again[2]), None)


@pytest.mark.parametrize("number", [1, 2, 4, 40, 81, 82, 84])
def test_a_mistyped_word_is_named_by_its_number(number: int) -> None:
    """One that is no word of the list, and one that is, which only the checksum can tell; neither is repeated."""
    with pytest.raises(KeyRefusedError, match=rf"^word {number} of 'page 2' is none of the list's$") as refused:
        combine_shares(texts(PAGES[0], changed(PAGES[1], number, "accademic"), PAGES[2]), None)
    assert "accademic" not in refused.value.message + refused.value.hint
    other = "academic" if word(PAGES[1], number) != "academic" else "acid"
    with pytest.raises(KeyRefusedError, match=rf"^word {number} of 'page 2' wrong$|^several words"):
        combine_shares(texts(PAGES[0], changed(PAGES[1], number, other), PAGES[2]), None)


def test_most_single_words_are_found() -> None:
    """By the checksum alone, at every place but where the kind of share is said."""
    found = 0
    for number in range(3, 85):
        other = "academic" if word(PAGES[0], number) != "academic" else "acid"
        with pytest.raises(KeyRefusedError) as refused:
            combine_shares(texts(changed(PAGES[0], number, other), *PAGES[1:3]), None)
        found += refused.value.message == f"word {number} of 'page 1' wrong"
    assert found == 82


def test_two_wrong_words_are_no_riddle() -> None:
    """Nothing false is named."""
    page = changed(changed(PAGES[0], 10, word(PAGES[0], 11)), 11, word(PAGES[0], 10))
    assert page != PAGES[0]
    with pytest.raises(KeyRefusedError, match=r"^several words of 'page 1' wrong$"):
        combine_shares(texts(page, *PAGES[1:3]), None)


def test_a_word_left_out_is_counted() -> None:
    """Eighty-three words are not a share."""
    page = re.sub(r"(?<!\d)17\. \w+", "", PAGES[0])
    with pytest.raises(KeyRefusedError, match="'page 1' has 83 words, and a share has 84"):
        combine_shares(texts(page, *PAGES[1:3]), None)


def test_typed_in_one_go() -> None:
    """Without numbers, in capitals, a blank line between shares; then somebody has to say whose it is to be."""
    bare = "\n\n".join(" ".join(re.findall(r"\d+\. (\w+)", page)).upper() for page in PAGES[:3])
    assert combine_shares([ShareText("standard input", bare)], PAIR.public) == PAIR
    with pytest.raises(UsageError, match="which recipient"):
        combine_shares([ShareText("standard input", bare)], None)
    with pytest.raises(KeyRefusedError, match="is wanted"):
        combine_shares([ShareText("standard input", bare)], suite.generate().public)


def test_a_page_is_a_page() -> None:
    """It fits on a sheet, names its recipient, and says what it is."""
    assert len(PAGES[0].splitlines()) < 40
    assert max(map(len, PAGES[0].splitlines())) <= 100
    assert MADE.recipient in PAGES[0]
    assert "share 1 of 4" in PAGES[0]


@pytest.mark.parametrize(("shares", "threshold"), [(3, 1), (1, 1), (3, 4), (17, 2), (0, 0)])
def test_numbers_that_make_no_sense(shares: int, threshold: int) -> None:
    """Are refused before anything is made."""
    with pytest.raises(RefusedError, match="cannot be made"):
        escrow.split(PAIR.secret, shares, threshold)


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
