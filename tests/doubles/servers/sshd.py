"""A real OpenSSH server on loopback that behaves like an rsync.net account.

A forced command stands for the restricted shell: no redirection, no pipes, BSD names for the hash commands, `quota` but
no `df`; SFTP starts in the account's home. Also used by scripts, so nothing here needs pytest.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from doubles.servers.ports import free_port

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
_SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")

CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {base}/host_key
AuthorizedKeysFile {base}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 1000
MaxSessions 10
LogLevel INFO
Subsystem sftp {sftp_server}
# Debian's bash reads ~/.bashrc when sshd starts it, unless it believes to be a shell within a shell.
SetEnv SHLVL=2
"""

SHELL = """\
#!/bin/sh
# The restricted shell of the account: SSH_ORIGINAL_COMMAND is all it gets.
cd {home} || exit 1
command=$SSH_ORIGINAL_COMMAND
[ "$command" = {sftp_server} ] && exec {drop} {sftp_server} {flags} -d {home}
case "$command" in
  "") echo "interactive logins are not allowed" >&2; exit 1 ;;
  *[\\<\\>]*) echo "Error parsing command: Output redirection not supported" >&2; exit 1 ;;
  *[\\|\\;\\&\\`\\$\\(]*) echo "Error parsing command: not supported" >&2; exit 1 ;;
esac
eval "set -- $command"
name=$1; shift
case "{dialect}:$name" in
  bsd:sha256) # openssl where there is one: coreutils' is five times slower than the BSD tool it stands for
    if command -v openssl >/dev/null; then
      digest=$(openssl dgst -sha256 -r -- "$1") && echo "SHA256 ($1) = ${{digest%% *}}"
      exit
    fi
    exec sha256sum --tag -- "$@" ;;
  bsd:md5|bsd:sha1) exec "${{name}}sum" --tag -- "$@" ;;
  gnu:md5sum|gnu:sha1sum|gnu:sha256sum) exec "$name" -- "$@" ;;
  weak:md5) exec md5sum --tag -- "$@" ;;
  liar:sha256|liar:sha256sum) echo "0000000000000000000000000000000000000000000000000000000000000000  $1"; exit 0 ;;
  *:quota) exec cat {base}/quota ;;
  sealed:*) ;;
  *:ls|*:mkdir|*:rm|*:id|*:find|*:dd|*:chmod) exec "$name" "$@" ;;
esac
echo "$name: command not allowed" >&2
exit 127
"""


@dataclass
class Account:
    """What a client needs to know of a running server."""

    host: str
    port: int
    user: str
    key_file: Path
    host_keys: tuple[str, ...]
    home: Path


APPEND_ONLY = "-P remove,rmdir,posix-rename,setstat,fsetstat,lsetstat,symlink,hardlink"
"""Flags of an `internal-sftp` that lets objects be added, and none be removed or overwritten: README's."""


def make_key(path: Path) -> str:
    """Write a private key in OpenSSH's form; returns the public half as `type base64`."""
    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@dataclass
class Sshd:
    """`dialect` is which hash commands the shell has: bsd, gnu, weak (md5 only), liar, none; sealed: no command at all.

    `flags` go to sftp-server; `unprivileged` runs it as nobody, so that file modes bind it also when we are root.
    Further keys to the same folder come from `add_key`.
    `home` may lie on a file system of the caller's choice (to fill it up); `port` 0 takes a free one.
    """

    dialect: str = "bsd"
    flags: str = ""
    unprivileged: bool = False
    home: Path | None = None
    port: int = 0
    base: Path = field(init=False)
    _account: Account = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None)

    def __enter__(self) -> Account:
        self.base = Path(tempfile.mkdtemp(prefix="backupd-sshd-"))
        self.base.chmod(0o755)
        home = self.home or self.base / "home"
        home.mkdir(exist_ok=True)
        host_key = make_key(self.base / "host_key")
        client_key = make_key(self.base / "client_key")
        shell = self._write_shell(home)
        (self.base / "authorized_keys").write_text(f'restrict,command="{shell}" {client_key}\n')
        (self.base / "quota").write_text("")
        user = getpass.getuser()
        self._account = Account("127.0.0.1", self._start(), user, self.base / "client_key", (host_key,), home)
        if self._drops:
            os.chown(home, 65534, 65534)
        return self._account

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def stop(self) -> None:
        """End the listener and every session of it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(10)
            self._process = None

    @property
    def account(self) -> Account:
        """What a client needs to know of it while it runs."""
        return self._account

    def hang(self) -> None:
        """Have the listener and every session neither answer nor end, until `resume`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)
        # A busy machine may take seconds to stop it, and it answers until then.
        while Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.01)

    def resume(self) -> None:
        """Go on after `hang`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Stop, and listen again on the same port."""
        self.stop()
        self._launch(self.port)

    def add_key(self, flags: str = "") -> Account:
        """The folder through one more key, which starts nothing but `internal-sftp` with these flags.

        This is how an admin separates roles within one account. Like the other key's, its sessions are nobody's when
        `unprivileged`.
        """
        number = len(list(self.base.glob("key-*")))
        public = make_key(self.base / f"key-{number}")
        with (self.base / "authorized_keys").open("a") as keys:
            keys.write(f'restrict,command="internal-sftp -d {self._account.home} {flags}" {public}\n')
        user = "nobody" if self._drops else self._account.user
        return replace(self._account, user=user, key_file=self.base / f"key-{number}")

    def add_account(self, home: Path, user: str, group: str, flags: str = "") -> Account:
        """One more account of the server, as rsync.net has sub-accounts: another user, with a home of its own.

        Its own group is `group`, and it is in no other. Where there are no rights to give up, it is the user we are.
        """
        number = len(list(self.base.glob("key-*")))
        public = make_key(self.base / f"key-{number}")
        drop = f"setpriv --reuid={user} --regid={group} --clear-groups" if os.getuid() == 0 else ""
        with (self.base / "authorized_keys").open("a") as keys:
            keys.write(f'restrict,command="{drop} {_sftp_server()} -u 022 -d {home} {flags}" {public}\n')
        return replace(self._account, key_file=self.base / f"key-{number}", home=home)

    def tell_quota(self, text: str) -> None:
        """What the `quota` command prints from now on."""
        (self.base / "quota").write_text(text)

    @property
    def _drops(self) -> bool:
        """Whether there are rights to give up; without any, nothing needs to be."""
        return self.unprivileged and os.getuid() == 0

    def _write_shell(self, home: Path) -> Path:
        drop = "setpriv --reuid=65534 --regid=65534 --clear-groups" if self._drops else ""
        shell = self.base / "shell"
        shell.write_text(
            SHELL.format(
                home=home, base=self.base, sftp_server=_sftp_server(), dialect=self.dialect, flags=self.flags, drop=drop
            )
        )
        shell.chmod(0o755)
        return shell

    def _start(self) -> int:
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        for _ in range(20):
            port = self.port or free_port()
            if self._launch(port):
                self.port = port
                return port
        raise RuntimeError(f"sshd does not start: {(self.base / 'log').read_text()}")

    def _launch(self, port: int) -> bool:
        """False when it ended at once, as it does when somebody else took the port: who answers there is not asked."""
        config = self.base / "sshd_config"
        text = CONFIG.format(port=port, base=self.base, sftp_server=_sftp_server())
        config.write_text(text + ("PerSourcePenalties no\n" if _knows_penalties() else ""))
        said = self.base / "log"
        said.write_bytes(b"")
        with said.open("ab") as log:
            self._process = subprocess.Popen(
                [SSHD or "sshd", "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=log, start_new_session=True
            )
        while self._process.poll() is None:
            if b"Server listening on" in said.read_bytes():
                return True
            time.sleep(0.01)
        return False


def _sftp_server() -> str:
    return next(path for path in _SFTP_SERVERS if Path(path).exists())


def _knows_penalties() -> bool:
    """OpenSSH 9.8 and later delay sources that fail to log in, which tests do on purpose."""
    version = subprocess.run([SSHD or "sshd", "-V"], capture_output=True, text=True, check=False).stderr
    major, minor = version.split("OpenSSH_", 1)[1].split("p")[0].split(",")[0].split(".")[:2]
    return (int(major), int(minor)) >= (9, 8)
