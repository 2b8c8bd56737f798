"""How fast a far store takes data: our SFTP writer beside OpenSSH's sftp on one connection, through the same proxy.

Run as `python -m lib.bench.round_trips PORT PATH SIZE FOLDER` it is the writer: what a backup's uploading threads do,
over as many connections as a configuration has when it says nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lib.bench.figures import Log, of_cost
from lib.bench.stage import CHECKOUT, Stage
from lib.process_cost import run

ROUND_TRIPS = (30, 100)
"""Milliseconds."""
PIECE = 8 << 20
THREADS_A_CONNECTION = 4


def measure(stage: Stage, log: Log, rounds: int, size: int) -> None:
    """Send `size` random bytes both ways in each round, at each round trip; the whole command's time counts."""
    folder, account = stage.folder / "far", stage.account
    folder.mkdir()
    (stage.account.home / "far").mkdir()
    (folder / "payload").write_bytes(os.urandom(size))
    (folder / "account.json").write_text(
        json.dumps({"user": account.user, "key": str(account.key_file), "host_keys": account.host_keys})
    )
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "PYTHONPATH": ":".join(map(str, (CHECKOUT, CHECKOUT / "scripts", CHECKOUT / "tests"))),
    }
    for milliseconds in ROUND_TRIPS:
        sample = f"far-{milliseconds}"
        with _proxy(account.port, milliseconds, environment) as port:
            for number in range(1, rounds + 1):
                ours = [
                    sys.executable,
                    "-m",
                    __spec__.name,
                    str(port),
                    f"far/ours-{milliseconds}-{number}",
                    str(folder),
                ]
                cost = run(ours, environment, folder)
                log.add(of_cost(sample, "backupd", "ship", number, cost, size))
                cost = run(_sftp(stage, port, f"far/sftp-{milliseconds}-{number}"), environment, folder)
                log.add(of_cost(sample, "sftp", "ship", number, cost, size))


@contextmanager
def _proxy(target: int, milliseconds: int, environment: dict[str, str]) -> Iterator[int]:
    """A process of its own, so that its threads take no turn from anybody's."""
    command = [sys.executable, "-m", "doubles.servers.delay_proxy", str(target), str(milliseconds)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def _sftp(stage: Stage, port: int, path: str) -> list[str]:
    account = stage.account
    options = ["-q", "-i", f"{stage.folder}/plain.key", "-o", f"UserKnownHostsFile={stage.folder}/known_hosts"]
    options += ["-o", "HostKeyAlias=bench"]
    put = f"put payload {account.home}/{path}"
    command = ["sftp", *options, "-P", str(port), "-b", "-", f"{account.user}@{account.host}"]
    return ["bash", "-c", 'put=$1; shift; "$@" <<<"$put"', "sftp", put, *command]


def write(port: int, path: str, folder: Path) -> None:
    """Put the payload onto the store in pieces."""
    from backupd.clock import SystemClock
    from backupd.model.ids import ObjectHash, ObjectName
    from backupd.store.sftp import open_sftp
    from backupd.store.sftp.ssh import SftpTarget

    account = json.loads((folder / "account.json").read_text())
    target = SftpTarget(
        host="127.0.0.1",
        port=port,
        user=account["user"],
        key_file=Path(account["key"]),
        host_keys=tuple(account["host_keys"]),
        path=path,
        region="be",
    )
    store = open_sftp(target, SystemClock())
    payload = folder / "payload"

    def put(place: int) -> None:
        with payload.open("rb") as file:
            file.seek(place)
            data = file.read(PIECE)
        name = ObjectName(f"piece-{place // PIECE}")
        store.put_new(name, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))

    with ThreadPoolExecutor(target.connections * THREADS_A_CONNECTION) as pool:
        list(pool.map(put, range(0, payload.stat().st_size, PIECE)))
    store.close()


if __name__ == "__main__":
    write(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
