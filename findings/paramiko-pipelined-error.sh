#!/usr/bin/env bash
# paramiko: a pipelined write that the server refused is never reported, not by write, flush or close.
#
# One would guess that set_pipelined(True) only defers the answers: that errors surface later, at the latest in
# close(), which waits for what is open. With a server whose files may not grow beyond 1 MiB, 3,000,000 bytes were
# written:
#
#   not pipelined    write: OSError "Failure"
#   pipelined        write, flush and close return; the file has 1,048,576 bytes
#   putfo            OSError "size mismatch in put!  1048576 != 3000000": it pipelines, but compares sizes
#
# The server answered each refused request with a failure; the client read those answers and dropped them.
#
# Seen with paramiko 5.1.0 and sftp-server of OpenSSH 9.2p1 (Debian 1:9.2p1-2+deb12u10), over a socket instead of SSH.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages paramiko==5.1.0
debian openssh-sftp-server=1:9.2p1-2+deb12u10
cat >"$work/upload.py" <<'PYTHON'
import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import paramiko

folder = Path(sys.argv[1])


class Line(socket.socket):
    """What an SFTP client asks of a channel beyond a socket."""

    def get_name(self):
        return "line"


ours, servers = socket.socketpair()
quota = "trap '' XFSZ; ulimit -f 1024; exec \"$0\""
command = ["bash", "-c", quota, str(folder / "usr/lib/openssh/sftp-server")]
with subprocess.Popen(command, stdin=servers, stdout=servers) as server:
    servers.close()
    client = paramiko.SFTPClient(Line(fileno=ours.detach()))
    for pipelined in (False, True):
        path = folder / f"uploaded-{pipelined}"
        outcome = "returned"
        file = client.open(str(path), "wb")
        file.set_pipelined(pipelined)
        try:
            file.write(bytes(3_000_000))
            file.flush()
            file.close()
        except OSError as error:
            outcome = f"{type(error).__name__} {error}"
        print(f"pipelined {pipelined}: {outcome}, {os.path.getsize(path)} bytes")
    try:
        client.putfo(io.BytesIO(bytes(3_000_000)), str(folder / "put"))
    except OSError as error:
        print(f"putfo: {error}")
    client.close()
PYTHON
"$python" "$work/upload.py" "$work" >"$work/outcomes"
expect "one by one" "pipelined False: OSError Failure, 1048576 bytes" "$(sed -n 1p "$work/outcomes")"
expect "pipelined" "pipelined True: returned, 1048576 bytes" "$(sed -n 2p "$work/outcomes")"
expect "putfo" "putfo: size mismatch in put!  1048576 != 3000000" "$(sed -n 3p "$work/outcomes")"
