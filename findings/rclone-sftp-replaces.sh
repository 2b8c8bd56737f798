#!/usr/bin/env bash
# rclone serve sftp: a rename replaces what is there, and so do an exclusive open and an append.
#
# One would guess that SFTP's own rename fails where the new name is taken, as version 3's draft demands and OpenSSH
# does (posix-rename@openssh.com is there for the other), that O_EXCL refuses, and that an append keeps what was
# written. Each request is answered with success; of "old" in the file nothing is left:
#
#   rename onto it              "new", the file that was renamed
#   open for "wx" and write     "X"
#   open for "a" and write      "X" with --vfs-cache-mode full; without, an error, and the file is empty
#
# A program that publishes by rename, so as never to overwrite, overwrites. It has to try the rename on two files of
# its own before it trusts a server.
#
# Seen with rclone 1.60.1 of Debian 12, asked by paramiko 5.1.0.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages paramiko==5.1.0
debian rclone=1.60.1+dfsg-2+b5
cat >"$work/ask.py" <<'PYTHON'
import socket
import subprocess
import sys
import time
from pathlib import Path

import paramiko

folder, mode = Path(sys.argv[1]), sys.argv[2]
paramiko.RSAKey.generate(2048).write_private_key_file(str(folder / f"key-{mode}"))
served = folder / f"served-{mode}"
served.mkdir()
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
command = [folder / "usr/bin/rclone", "serve", "sftp", served, "--addr", f"127.0.0.1:{port}", "--no-auth"]
command += ["--key", folder / f"key-{mode}", "--cache-dir", folder / "cache", "--vfs-cache-mode", mode]
with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
    while True:
        try:
            transport = paramiko.Transport(("127.0.0.1", port))
            break
        except paramiko.SSHException:
            if server.poll() is not None:
                raise
            time.sleep(0.1)
    transport.connect(username="anyone")
    transport.auth_none("anyone")
    client = paramiko.SFTPClient.from_transport(transport)

    def write(name, text, flags):
        with client.open(name, flags) as file:
            file.write(text)

    def asked(name, request, *arguments):
        write("/there", b"old", "w")
        outcome = "done"
        try:
            request(*arguments)
        except OSError as error:
            outcome = str(error)
        print(f"{name}: {outcome}, {client.open('/there').read().decode()!r}")

    write("/other", b"new", "w")
    asked("rename", client.rename, "/other", "/there")
    asked("exclusive", write, "/there", b"X", "wx")
    asked("append", write, "/there", b"X", "a")
    transport.close()
    server.terminate()
PYTHON
export HOME=$work
seen="rename: done, 'new'
exclusive: done, 'X'"
expect "without a cache" "$seen
append: Illegal seek, ''" "$("$python" "$work/ask.py" "$work" off)"
expect "with one" "$seen
append: done, 'X'" "$("$python" "$work/ask.py" "$work" full)"
