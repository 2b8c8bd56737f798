#!/usr/bin/env bash
# A SQLite database in WAL mode: its own backup cannot be read from where nobody may write; what VACUUM INTO made can.
#
# One would guess that a finished copy is a file like any other. That the origin was in WAL mode is in the copy's
# header, and opening such a file makes -wal and -shm beside it. In a folder without write permission, or on a mounted
# snapshot, with mode=ro:
#
#                                     open by mode=ro                                and immutable=1
#   backup()                          "attempt to write a readonly database"         all rows
#   serialize(), written to a file    "attempt to write a readonly database"         all rows
#   VACUUM INTO                       all rows                                       all rows
#   the origin, while it is in use    all rows                                       those of the last checkpoint,
#                                                                                    with no error
#
# and deserialize() of what serialize() gave: "unable to open database file", whoever may write. So what opens the
# copies, immutable=1, reads the origin wrong, and the copy that needs neither is VACUUM INTO's.
#
# Seen with SQLite 3.54.1 in apsw 3.54.1.0.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages apsw==3.54.1.0
cat >"$work/copies.py" <<'PYTHON'
import os
import sys
from pathlib import Path

import apsw

folder = sys.argv[1]


def rows(connection):
    try:
        return connection.execute("SELECT count(*) FROM t").get
    except apsw.Error as error:
        return error


origin = apsw.Connection(f"{folder}/origin")
for statement in (
    "PRAGMA journal_mode = wal",
    "CREATE TABLE t (i)",
    "INSERT INTO t VALUES (1)",
    "PRAGMA wal_checkpoint",
    "INSERT INTO t VALUES (2)",
):
    list(origin.execute(statement))
with apsw.Connection(f"{folder}/backup") as target, target.backup("main", origin, "main") as backup:
    backup.step()
target.close()
serialized = origin.serialize("main")
Path(folder, "serialized").write_bytes(serialized)
origin.execute("VACUUM INTO ?", (f"{folder}/vacuumed",))
memory = apsw.Connection(":memory:")
memory.deserialize("main", serialized)
print("deserialized:", rows(memory))

os.chmod(folder, 0o555)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
for name in ("backup", "serialized", "vacuumed", "origin"):
    for way in ("mode=ro", "mode=ro&immutable=1"):
        try:
            print(f"{name} {way}:", rows(apsw.Connection(f"file:{folder}/{name}?{way}", flags=flags)))
        except apsw.Error as error:
            print(f"{name} {way}:", error)
PYTHON
mkdir "$work/files"
"$python" "$work/copies.py" "$work/files" >"$work/seen"
chmod 755 "$work/files"
readonly="attempt to write a readonly database"
expect "deserialize" "deserialized: unable to open database file" "$(sed -n 1p "$work/seen")"
expect "backup" "backup mode=ro: $readonly" "$(sed -n 2p "$work/seen")"
expect "backup" "backup mode=ro&immutable=1: 2" "$(sed -n 3p "$work/seen")"
expect "serialize" "serialized mode=ro: $readonly" "$(sed -n 4p "$work/seen")"
expect "serialize" "serialized mode=ro&immutable=1: 2" "$(sed -n 5p "$work/seen")"
expect "VACUUM INTO" "vacuumed mode=ro: 2" "$(sed -n 6p "$work/seen")"
expect "VACUUM INTO" "vacuumed mode=ro&immutable=1: 2" "$(sed -n 7p "$work/seen")"
expect "the origin" "origin mode=ro: 2" "$(sed -n 8p "$work/seen")"
expect "the origin" "origin mode=ro&immutable=1: 1" "$(sed -n 9p "$work/seen")"
