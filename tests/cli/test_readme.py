"""README.md agrees with the program: its lists are compared, its commands are run."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

import pytest
import readme
from doubles import postgres
from doubles.example_config import OUR_KEY, PLACEHOLDER
from doubles.sshd import Sshd
from pydantic import BaseModel, TypeAdapter

from backupd.cli.application import build
from backupd.config import load, schema
from backupd.config.faults import ConfigFaultsError
from backupd.errors import EXIT_CODES
from backupd.seal.keys.signing import read_signer

PLACES = {
    "stores": "NAME",
    "regions": "NAME",
    "classes": "NAME",
    "databases": "LABEL",
}
ROOT = Path(__file__).parents[2]


def fields(model, prefix=""):
    """Every key that can be written, with its field."""
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        below = [kind for kind in sections(field.annotation) if issubclass(kind, BaseModel)]
        if not below:
            yield key, field
        for kind in below:
            yield from fields(kind, f"{key}.{PLACES[name]}." if name in PLACES else f"{key}.")


def sections(annotation):
    """The classes an annotation is made of."""
    if get_origin(annotation) in (Annotated, Union, UnionType, dict, tuple):
        for part in get_args(annotation):
            yield from sections(part)
    elif isinstance(annotation, type):
        yield annotation


def commands(group, prefix):
    """Every command by its full name, with the first line of its help."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command.help.split("\n")[0]


def test_exit_statuses_are_the_programs():
    """The table of exit statuses says what errors.py says, and nothing else."""
    assert readme.table("Exit status") == [[str(code), meaning] for code, meaning in EXIT_CODES.items()]


def test_commands_are_the_programs():
    """Every command is listed with the first line of its help, and no other."""
    rows = readme.table("Commands")
    listed = {name.strip("`"): does for name, does in rows}
    assert len(listed) == len(rows)

    assert listed == dict(commands(build(), "backupd"))


def test_configuration_keys_are_the_programs():
    """Every key of the configuration is listed with its default, and no other."""
    known = dict(fields(schema.Config))
    rows = readme.table("Configuration")
    listed = {name.strip("`"): default.strip("`") for name, default, *_ in rows}
    assert len(listed) == len(rows)

    assert sorted(listed) == sorted(known)
    for name, field in known.items():
        if field.is_required():
            assert listed[name] == "required", name
        elif field.default is None:
            assert listed[name] == "none", name
        else:
            written = tomllib.loads(f"value = {listed[name]}")["value"]
            adapter = TypeAdapter(Annotated[field.annotation, field])
            assert adapter.validate_python(written) == field.default, name


@pytest.mark.timeout(600)
def test_every_command_in_the_readme_works(tmp_path, bare_python):
    """Followed from the first key to recovery without backupd, on real servers, each block does what is said."""
    with postgres.running(15) as server, Sshd() as account:
        reader = Reader(tmp_path, server, account, bare_python)
        for block in readme.blocks():
            reader.follow(block)

        restored = server.sql("app_restored", "SELECT id, tenant_id, title FROM issue ORDER BY id")
        assert restored == server.sql("app", "SELECT id, tenant_id, title FROM issue ORDER BY id")
        assert server.sql("app_again", "SELECT count(*) FROM country") == [(2,)]
        assert list((tmp_path / "work" / "recovered").rglob("README.txt"))


class Reader:
    """Somebody who does what the README says, with the names of things here in place of those in it."""

    def __init__(self, folder, server, account, bare_python):
        self.folder, self.server, self.account = folder, server, account
        self.config = folder / "etc" / "backupd.toml"
        for name in ("etc", "work", "bin", "srv"):
            (folder / name).mkdir()
        self._program("backupd", f'exec {sys.executable} -m backupd "$@"')
        options = {
            "HostName": account.host,
            "Port": account.port,
            "User": account.user,
            "IdentityFile": folder / "etc" / "store.key",
            "UserKnownHostsFile": folder / "known_hosts",
        }
        (folder / "ssh_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
        (folder / "known_hosts").write_text(f"[{account.host}]:{account.port} {account.host_keys[0]}\n")
        server.create_database("app")
        server.sql(
            "app",
            "CREATE TABLE country (code text PRIMARY KEY)",
            "INSERT INTO country VALUES ('be'), ('ch')",
            "CREATE TABLE issue (id int PRIMARY KEY, tenant_id int NOT NULL, title text)",
            "INSERT INTO issue SELECT g, g % 7, 'issue ' || g FROM generate_series(1, 1000) AS g",
        )
        self.renamed = {
            "/etc/backupd": f"{folder}/etc",
            "/srv/backupd": f"{folder}/srv",
            "host=db1.example": f"host=127.0.0.1 port={server.port}",
            "host=db2.example": f"host={server.sockets} port={server.port}",
            "host=/var/run/postgresql": f"host={server.sockets} port={server.port}",
            "2026-03-31T14:00": f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M}",
            "sftp -r zh1234@": f"sftp -q -F {folder}/ssh_config -r ",
            # What these two do is tested with the script; here they would only fetch packages.
            "python3 -m venv recover-env": f"ln -s {bare_python.parents[1]} recover-env",
            "recover-env/bin/pip install": ": instead of installing",
        }

    def follow(self, block):
        text = block.text
        for theirs, ours in self.renamed.items():
            text = text.replace(theirs, ours)
        {"sh": self._type, "sql": self._grant, "toml": self._configure}[block.language](text)

    def _type(self, script):
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "TERM": "xterm",
            "PYTHONPATH": str(ROOT),
            "BACKUPD_CONFIG": str(self.config),
        }
        status, shown = readme.run(script, self.folder / "work", environment, "a passphrase for README")
        assert status == 0, f"{script}\nended with {status}:\n{shown}"
        self._what_is_told_beside(script)

    def _what_is_told_beside(self, script):
        """The prose around the block: files to be put somewhere."""
        if "ops.identity" in script and "generate" in script:
            for name in ("ops", "escrow"):
                shutil.copy(self.folder / "work" / f"{name}.recipient", self.folder / "etc")
        if "ssh-keygen" in script:
            authorized = self.account.key_file.parent / "authorized_keys"
            forced = authorized.read_text().partition(" ssh-")[0]
            authorized.write_text(f"{forced} {(self.folder / 'etc' / 'store.key.pub').read_text()}")

    def _grant(self, statements):
        self.server.sql("app", *filter(str.strip, statements.split(";")), "ALTER ROLE backupd PASSWORD 'secret'")
        passfile = self.folder / "etc" / "pgpass"
        passfile.touch(mode=0o600)
        passfile.write_text("*:*:*:backupd:secret\n")

    def _configure(self, text):
        """The first block is the whole file; a later one adds sections, or replaces those it repeats."""
        if not self.config.exists():
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
            text = re.sub(r'"ssh-ed25519 \S+"', f'"{account.host_keys[0]}"', text)
            public = read_signer(self.folder / "etc" / "signing.key").public
            text = re.sub(r"^signers = .*$", f'signers = ["{public}"]', text, flags=re.MULTILINE)
            self.config.write_text(text)
            return
        whole = self.config.read_text()
        for list_, file in (("signers", "signing.key"), ("keepers", "keeper.key")):
            if f"{list_} = " in text:
                public = read_signer(self.folder / "etc" / file).public
                text = re.sub(rf"^{list_} = .*$", f'{list_} = ["{public}"]', text, flags=re.MULTILINE)
        for section in re.findall(r"^\[.*?(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL):
            head = section.split("\n")[0]
            before, found, after = whole.partition(f"{head}\n")
            rest = after.partition("\n[")[2]
            whole = f"{before}{section.rstrip()}\n\n[{rest}" if found else f"{whole.rstrip()}\n\n{section}"
        self.config.write_text(whole)

    def _program(self, name, line):
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


def test_the_small_configuration_is_complete():
    """The one in the README needs no key more than it shows, and one's own signer in place of what is no key."""
    first = next(block.text for block in readme.blocks() if block.language == "toml")
    with pytest.raises(ConfigFaultsError) as caught:
        load.parse(first, "README.md")
    assert [fault.key for fault in caught.value.faults] == ["trust.signers[0]"]
    first = first.replace(PLACEHOLDER, OUR_KEY)

    checked = load.parse(first, "README.md")

    assert list(checked.regions) == ["be"]
    assert isinstance(checked, schema.Config)
