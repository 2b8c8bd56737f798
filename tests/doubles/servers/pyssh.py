"""An SSH server in plain Python (paramiko's server half), for machines without sshd and as the base of the hostile one.

The same account as `doubles.servers.sshd` gives: a home, SFTP, BSD hash commands, `quota`, `ls`. Slower, and one
process with its client. Also used by scripts, so nothing here needs pytest.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import logging
import os
import shlex
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import paramiko
from doubles.paths import TESTS
from doubles.servers.sftp_engine import INIT, SftpEngine
from doubles.servers.sshd import Account, make_key

logging.getLogger("paramiko.server").addHandler(logging.NullHandler())
logging.getLogger("paramiko.server").propagate = False


class Gate(paramiko.ServerInterface):
    """Who may log in (one key), and what a channel may start."""

    def __init__(self, server: PySsh) -> None:
        self.server = server

    def get_allowed_auths(self, _username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, _username: str, key: paramiko.PKey) -> int:
        fits = key.asbytes() == self.server.client_key.asbytes()
        return paramiko.common.AUTH_SUCCESSFUL if fits else paramiko.common.AUTH_FAILED

    def check_channel_request(self, _kind: str, _chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        if name == "sftp":
            threading.Thread(target=self.server.serve_sftp, args=(channel,), daemon=True).start()
        return name == "sftp"

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        # Later, or a quick command's end could overtake the answer that it was started, which follows this return.
        answer = threading.Timer(0.02, self.server.serve_command, args=(channel, command.decode()))
        answer.daemon = True
        answer.start()
        return True


class PySsh:
    """`engine` makes one SFTP session; `port` 0 takes a free one. Keys stay in `base` for as long as that exists."""

    def __init__(
        self, home: Path | None = None, engine: Callable[[Path], SftpEngine] = SftpEngine, port: int = 0
    ) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="backupd-pyssh-"))
        self.home = home or self.base / "home"
        self.home.mkdir(exist_ok=True)
        self.quota = ""
        self.engine = engine
        self._host_key_line = make_key(self.base / "host_key")
        make_key(self.base / "client_key")
        self.client_key = paramiko.PKey.from_path(self.base / "client_key")
        self._host_key = paramiko.PKey.from_path(self.base / "host_key")
        self._transports: list[paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", port))

    def __enter__(self) -> Account:
        threading.Thread(target=self._accept, daemon=True).start()
        port = int(self._listener.getsockname()[1])
        key_file = self.base / "client_key"
        return Account("127.0.0.1", port, getpass.getuser(), key_file, (self._host_key_line,), self.home)

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, which would keep the port
        self._listener.close()
        self.cut()
        shutil.rmtree(self.base, ignore_errors=True)

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        transports, self._transports = self._transports, []
        for transport in transports:
            transport.close()

    def serve_sftp(self, channel: paramiko.Channel) -> None:
        engine = self.engine(self.home)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException), contextlib.closing(channel):
            for kind, body in requests(channel):
                reply = engine.greet() if kind == INIT else engine.answer(kind, body)
                for at in range(0, len(reply), 30_000):
                    channel.sendall(reply[at : at + 30_000])
        engine.close()

    def serve_command(self, channel: paramiko.Channel, command: str) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException), contextlib.closing(channel):
            code, output = self.run(shlex.split(command))
            channel.sendall(output.encode())
            channel.send_exit_status(code)

    def run(self, words: list[str]) -> tuple[int, str]:
        """What the restricted shell does with a command."""
        command, *arguments = words
        if command in {"md5", "sha1", "sha256"} and len(arguments) == 1 and (self.home / arguments[0]).is_file():
            with (self.home / arguments[0]).open("rb") as file:
                digest = hashlib.file_digest(file, command).hexdigest()
            return 0, f"{command.upper()} ({arguments[0]}) = {digest}\n"
        if command == "quota":
            return 0, self.quota
        if command == "ls":
            return 0, "".join(f"{path.name}\n" for path in sorted(self.home.iterdir()))
        return 127, ""

    def _accept(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            transport = paramiko.Transport(link)
            transport.set_log_channel("paramiko.server")
            transport.add_server_key(self._host_key)
            self._transports.append(transport)
            with contextlib.suppress(EOFError, paramiko.SSHException, OSError):
                transport.start_server(event=threading.Event(), server=Gate(self))


def requests(channel: paramiko.Channel):
    """The packets a client sends, until it ends."""
    buffer = bytearray()
    while piece := channel.recv(1 << 20):
        buffer += piece
        while len(buffer) >= 5:
            length, kind = struct.unpack_from(">IB", buffer)
            if len(buffer) < 4 + length:
                break
            yield kind, bytes(buffer[5 : 4 + length])
            del buffer[: 4 + length]


@contextlib.contextmanager
def apart(home: Path) -> Iterator[Account]:
    """The same server in a process of its own, so that its work is not ours."""
    command = [sys.executable, "-m", "doubles.servers.pyssh", str(home)]
    environment = os.environ | {"PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        shown = json.loads(process.stdout.readline())
        shown |= {"key_file": Path(shown["key_file"]), "host_keys": tuple(shown["host_keys"]), "home": home}
        try:
            yield Account(**shown)
        finally:
            process.stdin.close()  # which it takes as the end


if __name__ == "__main__":
    with PySsh(Path(sys.argv[1])) as running:
        print(json.dumps(asdict(running), default=str), flush=True)  # noqa: T201 - a program's answer
        sys.stdin.read()
