"""The questions about the store: where it is, whose key its server shows, and whether our key is let in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from backupd.cli.waiting_line import counted_seconds
from backupd.cli.wizard import dialogue
from backupd.clock import SystemClock
from backupd.config.draft import StoreDraft, Value, complaint
from backupd.errors import RefusedError, StoreError
from backupd.seal.ssh_key import new_ssh_key
from backupd.store.sftp.ssh import HostKey, SftpTarget, connect, read_host_key

KEY = "store.key"
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    key: HostKey


def ask_store(staged: Path, node: str) -> StoreDraft:
    """Ask for the store, and try to log in; the key for that is made as `staged`/store.key.

    Raises RefusedError when the server's key was not confirmed, or somebody gives up.
    """
    dialogue.say("", "The store. Where do backups go?")
    kind = dialogue.choose(
        "Choice", ["an account with SFTP on another server", "a folder here, such as a mounted disk"]
    )
    name = dialogue.ask(
        "A short name for the store", "offsite" if kind == 0 else "disk", lambda text: complaint("name", text)
    )
    location = dialogue.ask("Where it stands, in one word, such as a city", check=lambda text: complaint("name", text))
    if kind == 1:
        path = dialogue.ask("Folder", "/srv/backupd", _folder)
        return StoreDraft(name, location, {"kind": "directory", "path": path})
    server = _ask_server()
    user = dialogue.ask("Account", check=lambda text: complaint("user", text))
    path = dialogue.ask("Folder on it", "backupd", lambda text: complaint("remote path", text))
    _log_in(staged, server, user, node)
    address: dict[str, Value] = {"kind": "sftp", "host": server.host, "port": server.port, "user": user}
    return StoreDraft(name, location, {**address, "host_keys": [server.key.line], "path": path})


def _folder(text: str) -> str:
    missing = "is not there: mount its disk, or make it once"
    return complaint("folder", text) or ("" if Path(text).is_dir() else missing)


def _ask_server() -> _Server:
    host, port = "", 22
    while True:
        host = dialogue.ask("Host", host, lambda text: complaint("host", text))
        port = int(dialogue.ask("Port", str(port), lambda text: "" if text.isdecimal() else "is no port"))
        try:
            with counted_seconds(f"waiting for {host}"):
                key = read_host_key(host, port, _PATIENCE, SystemClock())
        except StoreError as error:
            dialogue.complain(error)
            continue
        dialogue.say("The server shows this key:", "", f"  {key.fingerprint}", "")
        dialogue.say("Compare it with what the store's operator publishes, not with what this network shows.")
        if not dialogue.agree("Is it the same, letter for letter?"):
            raise RefusedError(
                "the store's key was not confirmed; nothing was written",
                hint="Ask the store's operator for the fingerprints of its keys: somebody may be in between.",
            )
        return _Server(host, port, key)


def _log_in(staged: Path, server: _Server, user: str, node: str) -> None:
    pair = new_ssh_key(f"backupd@{node}")
    file = staged / KEY
    file.touch(mode=0o600)
    file.write_bytes(pair.secret)
    dialogue.show("", "Put this line into the account's authorized_keys:", "", pair.public, "")
    target = SftpTarget(
        server.host, server.port, user, file, host_keys=(server.key.line,), path="", region="", deadline=_PATIENCE
    )
    while True:
        dialogue.ask("Press Enter when it is there", "try it")
        try:
            with counted_seconds("logging in"):
                connect(target, SystemClock()).close()
        except StoreError as error:
            dialogue.complain(error)
            if not dialogue.agree("Try again?", default=True):
                raise RefusedError(dialogue.STOPPED) from None
        else:
            dialogue.say("The server let us in.")
            return
