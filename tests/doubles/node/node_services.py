"""Services around a node, inside a booted machine: a PostgreSQL server with a database, and an SSH store.

`python -m doubles.node.node_services FOLDER` prints one JSON line when both are up, and goes on until it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from doubles.servers import postgres
from doubles.servers.sshd import APPEND_ONLY, Sshd

PASSWORD = "kept-in-a-credential"
ROWS = (
    "CREATE TABLE issue (id int PRIMARY KEY, tenant int NOT NULL, title text)",
    "INSERT INTO issue SELECT g, g % 5, 'issue ' || g FROM generate_series(1, 2000) AS g",
    f"CREATE ROLE backupd LOGIN BYPASSRLS PASSWORD '{PASSWORD}'",
    "GRANT pg_read_all_data TO backupd",
)


def main(folder: Path) -> None:
    server = postgres.start(15, folder / "postgres")
    server.create_database("app")
    server.sql("app", *ROWS)
    sshd = Sshd(unprivileged=True)
    account = sshd.__enter__()
    told = {
        "dsn": f"host=127.0.0.1 port={server.port} dbname=app user=backupd",
        "sockets": str(server.sockets),
        "port": account.port,
        "host_key": account.host_keys[0],
        "home": str(account.home),
        "user": sshd.add_key(APPEND_ONLY).user,
        "writer": str(sshd.base / "key-0"),
        "keeper": str(sshd.add_key().key_file),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    os.close(1)
    signal.pause()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
