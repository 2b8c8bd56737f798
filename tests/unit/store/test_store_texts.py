"""Names, digests and quotas: text from elsewhere, taken only when it says what it must."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import StoreError
from backupd.store.base import Space
from backupd.store.names import components, folders, temporary
from backupd.store.server import parse_digest, parse_quota

DIGEST = hashlib.sha256(b"content").hexdigest()
BLOCKS = """\
Disk quotas for user 1001 (uid 1001):
     Filesystem   usage    quota   limit   grace   files   quota  limit   grace
       /data1    1000    5000    6000             123       0      0
"""
NAME = hashlib.sha256(b"other").hexdigest()


@pytest.mark.parametrize(
    "output",
    [
        f"{DIGEST}  be/tmp/{NAME}\n",
        f"{DIGEST} *be/tmp/{NAME}\n",
        f"\\{DIGEST}  be/a\\\\b\n",
        f"SHA256 (be/tmp/{NAME}) = {DIGEST}\n",
        f"{DIGEST}\n",
        f"SHA256 (x) = {DIGEST.upper()}\n",
    ],
)
def test_digests_are_found_in_every_dialect(output):
    """GNU, BSD and bare forms give the same digest."""
    assert parse_digest(output.encode(), "sha256") == DIGEST


@pytest.mark.parametrize(
    "output",
    [
        "",
        f"{NAME[:-1]}  be/tmp/x",
        f"sha256: be/{NAME}: Permission denied",
        f"SHA256 (be/{NAME}) = ",
        f"cannot open {NAME}",
        f"{DIGEST}  a\n{NAME}  b\n",
        f"MD5 (x) = {DIGEST}",
        f"SHA1 (x) = {DIGEST[:40]}",
    ],
)
def test_a_name_never_passes_for_a_digest(output):
    """Our object names are digests; a message that repeats one proves nothing."""
    assert parse_digest(output.encode(), "sha256") is None


def test_binary_output_is_no_digest():
    """Bytes that are not text are refused quietly."""
    assert parse_digest(b"\xff\xfe\x00", "md5") is None


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        # FreeBSD and Linux: blocks of 1 KiB
        (BLOCKS, Space(free=4000 * 1024, total=5000 * 1024)),
        # with units, and over the soft limit
        ("data1\t12.5G\t10G\t11G\t1200\n", Space(free=0, total=10 * 1024**3)),
        # a line of its own for a long name
        ("10.0.0.50:/vol/users\n                5952M  51200M  56320M\n", Space((51200 - 5952) << 20, 51200 << 20)),
        # the tightest counts; a limit of 0 is none
        ("a 1 100 200\nb 1 10 20\n", Space(9 * 1024, 10 * 1024)),
        ("a 1 0 0\n", None),
        ("a 7 0 10\n", Space(3 * 1024, 10 * 1024)),
        ("Disk quotas for user x (uid 5): none\n", None),
        ("", None),
        ("quota: command not allowed", None),
    ],
)
def test_quotas(output, expected):
    """The room a quota leaves is taken where it is certain, else nothing is claimed."""
    assert parse_quota(output.encode()) == expected


@given(st.binary(max_size=200))
def test_no_output_breaks_the_parsers(output):
    """Whatever a command prints gives a value or nothing."""
    parse_quota(output)
    parse_digest(output, "sha256")


@given(st.text(max_size=30))
def test_legal_names_stay_below_the_root(name):
    """A name is refused or is made of plain parts that join to itself."""
    try:
        parts = components(name)
    except StoreError:
        return
    assert "/".join(parts) == name
    assert not {"", ".", ".."} & {*parts}


def test_folders_and_temporary_names():
    """The root is the empty folder; temporary names hold all the randomness they were given."""
    assert folders("") == []
    assert folders("a/b/") == ["a", "b"]
    assert temporary(lambda size: bytes(range(size))) == "tmp/000102030405060708090a0b0c0d0e0f"
    with pytest.raises(StoreError):
        components("x" * 600)
