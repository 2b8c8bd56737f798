"""The rights that the file of a secret may have."""

from __future__ import annotations

import os
import stat


def is_open_to_others(found: os.stat_result, user: int | None = None) -> bool:
    """Check whether others than its owner may use a file; `user` is who asks, by default this process.

    The group may read what root owns and the user does not, as libpq has it for its keys: so does systemd hand over a
    credential where an access list lets the service read it, whose mask stands in the place of the group's rights.
    """
    ours = os.geteuid() if user is None else user
    group = stat.S_IRWXG & ~stat.S_IRGRP if found.st_uid == 0 and ours != 0 else stat.S_IRWXG
    return bool(found.st_mode & (group | stat.S_IRWXO))
