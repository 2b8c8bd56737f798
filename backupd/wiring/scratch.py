"""What a scratch server that stays is made of."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from backupd.config.schema import Config
    from backupd.postgres.scratch.cluster import Making


def scratch_making(config: Config, folder: Path, server: int) -> Making:
    """For a server of the major version of `server`, a `server_version_num`, beside where `folder` will be.

    Raises RefusedError when it cannot be there, ConfigError when programs or its user are missing.
    """
    from backupd.postgres.scratch.cluster import Making
    from backupd.postgres.scratch.kept import require_place
    from backupd.postgres.scratch.programs import find_server, runner

    require_place(folder)
    user = config.drill.user if config.drill is not None else None
    programs = find_server(config.node.client_dirs, server // 10000)
    return Making(folder.parent, programs, runner(user), secrets.token_hex(8))
