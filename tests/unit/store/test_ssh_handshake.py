"""What answers in place of an SSH server is told in words, and a key that others can read logs in nowhere."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from doubles.servers import sshd
from doubles.servers.sshd import make_key

from backupd.clock import SystemClock
from backupd.errors import StoreAuthError, StoreGoneError
from backupd.store.sftp.ssh import SftpTarget, connect, read_host_key

GREETING = b"SSH-2.0-something\r\n"


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that does one thing with each connection; the port it listens on."""
    taken: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken.append(server.accept()[0])
                answer(taken[-1])

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in taken:
                one.close()


def greet_and_close(taken: socket.socket) -> None:
    taken.sendall(GREETING)
    taken.recv(4096)
    taken.close()


def refuse(taken: socket.socket) -> None:
    taken.sendall(b"Exceeded MaxStartups\r\n")
    taken.close()


@pytest.mark.parametrize("answer", [greet_and_close, refuse, socket.socket.close])
def test_a_server_that_hangs_up_is_named_with_what_to_look_at(answer: Callable[[socket.socket], object]) -> None:
    """By host and port, and not by the name of an exception."""
    with answering(answer) as port, pytest.raises(StoreGoneError) as caught:
        read_host_key("127.0.0.1", port, 60, SystemClock())

    assert caught.value.message == (
        f"what answers at '127.0.0.1' port {port} closed the connection before it showed a key"
    )
    assert "MaxStartups" in caught.value.hint


def offer_nothing_known(taken: socket.socket) -> None:
    """An exchange of keys that is sntrup761's only, as a server that is new and strict may have it."""
    lists = [b"sntrup761x25519-sha512@openssh.com", b"ssh-ed25519", *[b"aes256-gcm@openssh.com"] * 2]
    lists += [*[b"hmac-sha2-256"] * 2, *[b"none"] * 2, b"", b""]
    payload = bytes([20]) + bytes(16) + b"".join(struct.pack(">I", len(one)) + one for one in lists) + bytes(5)
    padding = 8 - (len(payload) + 5) % 8 + 8
    taken.sendall(GREETING + struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding))


def test_a_server_with_which_no_encryption_can_be_agreed_on_is_told() -> None:
    """What is in the way is how it is set up, and no name of an exception."""
    with answering(offer_nothing_known) as port, pytest.raises(StoreGoneError, match="no way to encrypt") as caught:
        read_host_key("127.0.0.1", port, 60, SystemClock())
    assert "set up for others" in caught.value.hint


@pytest.mark.parametrize("answer", [lambda taken: taken.sendall(GREETING), socket.socket.fileno])
def test_a_server_that_says_nothing_more_is_given_up_in_time(answer: Callable[[socket.socket], object]) -> None:
    """After all the seconds there are, which the message counts."""
    with answering(answer) as port, pytest.raises(StoreGoneError, match="did not show its key in 0 s"):
        read_host_key("127.0.0.1", port, 0.3, SystemClock())


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """As `config check` and OpenSSH do, before anything is connected to."""
    key = tmp_path / "store.key"
    make_key(key)
    key.chmod(0o644)
    target = SftpTarget("127.0.0.1", 1, "me", key, host_keys=("ssh-ed25519 AAAA",), path="", region="be")

    with pytest.raises(StoreAuthError, match="is open to other users") as caught:
        connect(target, SystemClock())
    assert "chmod 600" in caught.value.hint


def test_a_port_that_somebody_else_took_is_not_taken_for_our_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The double of the other tests: between the choice of a port and the start another program may come first."""
    with answering(refuse) as port:
        ports = iter([port, port])
        real = sshd.free_port
        monkeypatch.setattr(sshd, "free_port", lambda: next(ports, None) or real())
        with sshd.Sshd() as account:
            assert account.port != port
            shown = read_host_key("127.0.0.1", account.port, 60, SystemClock())
    assert shown.line == account.host_keys[0]
