"""Somebody who does what README and the manual say, with the names of things here in place of those in the text."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import readme

from backupd.seal.keyfiles import read_signer

PASSPHRASE = "a passphrase for README"


class Reader:
    """Follows blocks in the order in which they are given; what a block changes is there for the next."""

    def __init__(self, folder, server, account, bare_python):
        self.folder, self.server, self.account = folder, server, account
        self.config = folder / "etc" / "backupd.toml"
        for name in ("etc", "checkout", "bin", "srv"):
            (folder / name).mkdir()
        # Drills and scratch servers run as another user, who cannot reach the folder of a test.
        self.reachable = Path(tempfile.mkdtemp(prefix="readme-"))
        self.reachable.chmod(0o755)
        self._make_programs()
        self._make_ssh()
        self._make_database()
        self.renamed = {
            "/etc/backupd": f"{folder}/etc",
            "/srv/backupd": f"{folder}/srv",
            "/srv/look": f"{self.reachable}/look",
            "/var/lib/backupd-drill": f"{self.reachable}/drill",
            "/var/lib/backupd/": f"{folder}/state/",
            "/var/lib/prometheus/node-exporter": f"{folder}/srv",
            "host=db1.example": f"host=127.0.0.1 port={server.port}",
            "host=db2.example": f"host={server.sockets} port={server.port}",
            "host=/var/run/postgresql": f"host={server.sockets} port={server.port}",
            "2026-03-31T14:00": f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M}",
            "2030-01-01": f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}",
            "2030-12-31": f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}",
            "sftp -r zh1234@": f"sftp -q -F {folder}/ssh_config -r ",
            # What these two do is tested with the script; here they would only fetch packages.
            "python3 -m venv ": f"ln -s {bare_python.parents[1]} ",
            "env/bin/pip install": "env/bin/python --version # in place of",
        }

    def close(self):
        shutil.rmtree(self.reachable, ignore_errors=True)

    def follow(self, block):
        """Do what the block says; AssertionError with its place when it does not turn out as the text says."""
        text = self.here(block.text)
        if block.language == "sh":
            with self._elsewhere(text):
                self._type(block, text)
        elif block.language == "console":
            for typed in readme.session(text):
                self._compare(block, typed)
        elif block.language == "sql":
            self._grant(text)
        elif block.language == "toml":
            self._configure(text)
        else:
            assert block.language in ("conf", "ini", "text"), block.place

    def here(self, text):
        for theirs, ours in self.renamed.items():
            text = text.replace(theirs, ours)
        if "--keeper KEEPER" in text:
            text = text.replace("--keeper KEEPER", f"--keeper {read_signer(self.folder / 'etc' / 'keeper.key').public}")
        return text

    def run(self, script, *, piped=False):
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TERM": "xterm",
            "PYTHONPATH": str(readme.ROOT),
            "BACKUPD_CONFIG": str(self.config),
        }
        return readme.run(script, self.folder / "checkout", environment, PASSPHRASE, piped=piped)

    def _type(self, block, script):
        status, shown, _ = self.run(script)
        assert status == 0, f"{block.place}\n{script}\nended with {status}:\n{shown}"
        self._do_what_is_said_beside(script)

    def _compare(self, block, typed):
        status, shown, facts = self.run(typed.command, piped=True)
        assert status == 0, f"{block.place}\n{typed.command}\nended with {status}:\n{shown}{facts}"
        assert readme.fits(facts, typed.shown), (
            f"{block.place}\n{typed.command}\nprinted:\n{facts}\nnot:\n{typed.shown}"
        )
        self._do_what_is_said_beside(typed.command)

    @contextlib.contextmanager
    def _elsewhere(self, script):
        """What two blocks need that nothing else in the text has: a second region, and a store that was in use."""
        before = self.config.read_text() if self.config.exists() else ""
        if moved := re.search(r"tenant move be \d+ --to (\w+)", script):
            own = [text for text in _sections(before) if text.lstrip("[").startswith("regions.be")]
            self.config.write_text(before + "\n" + "".join(own).replace("regions.be", f"regions.{moved[1]}"))
        if retired := re.search(r"ledger retire be (\w+)", script):
            place = self.folder / retired[1]
            place.mkdir()
            section = f'[stores.{retired[1]}]\nkind = "directory"\npath = "{place}"\nlocation = "zurich"\n'
            used = before.replace('stores = ["zurich", "cellar"]', f'stores = ["zurich", "{retired[1]}"]')
            assert used != before
            self.config.write_text(f"{used}\n{section}")
            status, shown, _ = self.run("backupd init be && backupd purge be")
            assert status == 0, shown
            self.config.write_text(before)
        try:
            yield
        finally:
            if moved:
                self.config.write_text(before)

    def _do_what_is_said_beside(self, script):
        """The prose around the block: files to be put somewhere."""
        etc = self.folder / "etc"
        for name in re.findall(r"key generate (\w+)\.identity", script):
            shutil.copy(self.folder / "checkout" / f"{name}.recipient", etc)
            if name == "ops":
                # The one that drills open backups with, too.
                (etc / "drill.passphrase").touch(mode=0o600)
                (etc / "drill.passphrase").write_text(f"{PASSPHRASE}\n")
                shutil.copy(self.folder / "checkout" / "ops.identity", etc / "drill.identity")
        if "ssh-keygen" in script:
            authorized = self.account.key_file.parent / "authorized_keys"
            forced = authorized.read_text().partition(" ssh-")[0]
            authorized.write_text(f"{forced} {(etc / 'store.key.pub').read_text()}")
        if "--signer" in script and self.config.exists():
            self._trust()

    def _trust(self):
        """New public halves join those that are believed."""
        text = self.config.read_text()
        for list_, file in (("signers", "signing.key"), ("keepers", "keeper.key")):
            found = re.search(rf"^{list_} = \[(.*)\]$", text, re.MULTILINE)
            if found and (self.folder / "etc" / file).exists():
                public = f'"{read_signer(self.folder / "etc" / file).public}"'
                if public not in found[1]:
                    joined = ", ".join(filter(None, (found[1], public)))
                    text = text.replace(found[0], f"{list_} = [{joined}]")
        self.config.write_text(text)

    def _grant(self, statements):
        lines = re.sub(r"--.*$", "", statements, flags=re.MULTILINE)
        self.server.sql("app", *filter(str.strip, lines.split(";")), "ALTER ROLE backupd PASSWORD 'secret'")
        passfile = self.folder / "etc" / "pgpass"
        passfile.touch(mode=0o600)
        passfile.write_text("*:*:*:backupd:secret\n")

    def _configure(self, text):
        """The first block is the whole file; a later one adds sections, or keys to those that are there."""
        for list_, file in (("signers", "signing.key"), ("keepers", "keeper.key")):
            if f"{list_} = " in text:
                public = read_signer(self.folder / "etc" / file).public
                text = re.sub(rf"^{list_} = .*$", f'{list_} = ["{public}"]', text, flags=re.MULTILINE)
        if not self.config.exists():
            self.config.write_text(self._first(text))
            return
        whole = self.config.read_text()
        for line in re.findall(r"^\w+ = .*$", text.split("\n[")[0], re.MULTILINE) if text[0] != "[" else ():
            whole = re.sub(rf"^{line.split(' = ')[0]} = .*$", line, whole, count=1, flags=re.MULTILINE)
        for section in _sections(text):
            head = section.split("\n")[0]
            if head.startswith("[[") or f"\n{head}\n" not in whole:
                whole = f"{whole.rstrip()}\n\n{section}"
            else:
                before, _, after = whole.partition(f"\n{head}\n")
                body, bracket, rest = after.partition("\n[")
                new = {line.split(" = ")[0] for line in section.splitlines()[1:]}
                kept = [line for line in body.splitlines() if line.split(" = ")[0] not in new and line.strip()]
                whole = "\n".join([before, section.rstrip(), *kept, ""]) + bracket + rest
        self.config.write_text(whole)

    def _first(self, text):
        account = self.account
        folders = f'state_dir = "{self.folder}/state"\nspool_dir = "{self.folder}/spool"'
        changes = {
            'name = "node-1"': f'name = "node-1"\n{folders}',
            'user = "zh1234"': f'user = "{account.user}"\nport = {account.port}',
            "zh1234.rsync.example": account.host,
        }
        for theirs, ours in changes.items():
            assert theirs in text
            text = text.replace(theirs, ours)
        return re.sub(r'"ssh-ed25519 \S+"', f'"{account.host_keys[0]}"', text)

    def _make_ssh(self):
        account, folder = self.account, self.folder
        options = {
            "HostName": account.host,
            "Port": account.port,
            "User": account.user,
            "IdentityFile": folder / "etc" / "store.key",
            "UserKnownHostsFile": folder / "known_hosts",
        }
        (folder / "ssh_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        (folder / "known_hosts").write_text(f"[{account.host}]:{account.port} {account.host_keys[0]}\n")

    def _make_database(self):
        self.server.create_database("app")
        self.server.sql(
            "app",
            "CREATE TABLE country (code text PRIMARY KEY)",
            "INSERT INTO country VALUES ('be'), ('ch')",
            "CREATE TABLE issue (id int PRIMARY KEY, tenant_id int NOT NULL, title text)",
            "INSERT INTO issue SELECT g, g % 7, 'issue ' || g FROM generate_series(1, 1000) AS g",
        )

    def _make_programs(self):
        """backupd itself; and in place of what belongs to a whole machine, a program that knows what may be asked.

        What `systemctl` and `scripts/install` do is tested on a booted system; here, that the text asks for units and
        options that there are.
        """
        units = " ".join(path.name for path in (readme.ROOT / "systemd").glob("*.service"))
        options = " ".join(re.findall(r"--[a-z-]+", (readme.ROOT / "scripts" / "install").read_text()))
        self._program("backupd", f'exec {sys.executable} -m backupd "$@"')
        self._program("backupd-as", 'case $1 in node|keeper|drill) shift; exec backupd "$@";; esac; exit 2')
        self._program("sudo", 'exec "$@"')
        known = f'for one; do case " {units} enable --now status stop restart reload edit " in *" ${{one/@be/@}} "*);; '
        self._program("systemctl", known + '*) echo "no unit $one"; exit 2;; esac; done')
        (self.folder / "checkout" / "scripts").mkdir()
        for name in ("install", "demo"):
            assert os.access(readme.ROOT / "scripts" / name, os.X_OK)
            check = f'for one; do case " {options} " in *" $one "*);; *) exit 2;; esac; done'
            self._program(f"../checkout/scripts/{name}", check)
        # Tests and the demo are run in what it makes; here, that the text asks for an extra that there is.
        extras = tomllib.loads((readme.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        link = 'mkdir -p .venv/bin && ln -sf "$(command -v backupd)" .venv/bin/backupd'
        self._program(
            "../checkout/scripts/environment", f'case " {" ".join(extras)} " in *" $1 "*) {link};; *) return 2;; esac'
        )

    def _program(self, name, line):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/bash\n{line}\n")
        path.chmod(0o755)


def _sections(text):
    """The tables of a TOML text, each with its head."""
    return re.findall(r"^\[.*?(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
