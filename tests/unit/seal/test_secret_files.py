"""Who else may use the file of a secret."""

from __future__ import annotations

import os
import stat

import pytest

from backupd.secret_files import is_open_to_others

ROOT, SERVICE, OTHER = 0, 991, 992


@pytest.mark.parametrize(
    ("mode", "owner", "user", "is_open"),
    [
        (0o600, SERVICE, SERVICE, False),
        (0o400, ROOT, ROOT, False),
        (0o640, SERVICE, SERVICE, True),
        (0o604, SERVICE, SERVICE, True),
        (0o440, ROOT, ROOT, True),
        (0o440, ROOT, SERVICE, False),  # a credential of systemd's: the group's bits are the mask of the access list
        (0o640, ROOT, SERVICE, False),
        (0o660, ROOT, SERVICE, True),
        (0o444, ROOT, SERVICE, True),
        (0o440, OTHER, SERVICE, True),
    ],
)
def test_others_are_who_is_neither_owner_nor_asking(mode: int, owner: int, user: int, is_open: bool) -> None:
    """As libpq judges its keys: the group may read what root owns, for a user who is not root."""
    found = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, 0, 1, 0, 0, 0))
    assert is_open_to_others(found, user) is is_open
