"""The way of `backupd setup`: ask, try the answers, put everything in place, and say what comes next."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from backupd.cli.commands.config import checked
from backupd.cli.wizard.database import ask_database, ask_tenancy, written
from backupd.cli.wizard.dialogue import agree, ask, say, tell
from backupd.cli.wizard.keys import KeyAnswers, ask_keys
from backupd.cli.wizard.places import SetupPlaces
from backupd.cli.wizard.store import ask_store
from backupd.config.draft import ConfigDraft, complaint
from backupd.config.load import parse
from backupd.errors import RefusedError
from backupd.new_files import NewFiles


def set_up(places: SetupPlaces, files: NewFiles) -> None:
    """Ask for everything, and write it when it holds. Raises RefusedError, OSError and what the answers lead to."""
    tell("This asks for all that a first backup needs. Nothing is written before the end; Ctrl-C ends it.")
    draft, keys = _draft(places, files.folder)
    trial = files.folder / "trial.toml"
    trial.write_text(places.staged(draft, files.folder, keys).text())
    _require_sound(trial)
    if not agree(f"Write {places.config} and the keys?", default=True):
        raise RefusedError("nothing was written")
    final = places.final(draft, keys, files.folder)
    staged = files.folder / places.config.name
    parse(final.text(), str(places.config))
    staged.write_text(final.text())
    places.give_mode(staged)
    moves = places.moves(files.folder, keys)
    for name, (origin, _) in moves.items():
        if name != origin:
            shutil.copyfile(files.folder / origin, files.folder / name)
            (files.folder / name).chmod(0o600)
    files.put({name: path for name, (_, path) in moves.items()}, (staged.name, places.config))
    say(*_farewell(places, draft, keys))


def _require_sound(trial: Path) -> None:
    """Try the configuration until it holds. Raises RefusedError when somebody gives up."""
    while True:
        say("", "Trying it, as `config check --connect` does:")
        reply = checked(trial, os.environ, connect=True)
        say(*(line for line in reply.lines if isinstance(line, str) and str(trial) not in line))
        if not reply.status:
            say("It holds.")
            return
        if not agree("Mend that elsewhere, and try again?", default=True):
            raise RefusedError("the configuration does not hold; nothing was written")


def _draft(places: SetupPlaces, staged: Path) -> tuple[ConfigDraft, KeyAnswers]:
    host = socket.gethostname().partition(".")[0].lower()
    node = ask(
        "Name of this machine", host if not complaint("name", host) else "node-1", lambda text: complaint("name", text)
    )
    region = ask("Name of the region, a short word such as be", check=lambda text: complaint("region", text))
    database = ask_database(staged)
    tenancy = written(ask_tenancy(database.source, database.inventory))
    store = ask_store(staged, node)
    keys = ask_keys(staged, places.home)
    draft = ConfigDraft(
        node, region, database.label, database.dsn, tenancy, store, keys.signer, keys.keeper, keeps=keys.keeps,
        folders=places.ask_folders(),
    )  # fmt: skip
    return draft, keys


def _farewell(places: SetupPlaces, draft: ConfigDraft, keys: KeyAnswers) -> Iterator[str]:
    region, home = draft.region, places.home
    yield from ("", f"Written: {places.config} and its keys.", "", "Into escrow, away from this machine and the store:")
    yield "  escrow.identity, and its passphrase in another place"
    yield f"  {places.file('tenant.key')}: without it nobody finds a tenant's segments"
    if draft.keeps:
        yield f"  {places.file('keeper.key')}: without it this keeper's key has to be exchanged, and retired"
    yield f"  the keeper's public key: {draft.keeper}"
    if keys.identities:
        moved = " and ".join(str(home / name) for name in keys.identities)
        yield f"Now move {moved} off this machine: they open every backup."
    if not draft.keeps:
        yield f"Move {places.file('keeper.key')} to the keeper's machine (`backupd manual keeper`)."
    by_unit = "backupd-as node" if places.units else "backupd"
    yield from (
        "",
        "Next:",
        *([] if places.units else [f"  export BACKUPD_CONFIG={shlex.quote(str(places.config))}"]),
        f"  {by_unit} init {region}",
        f"  {by_unit} backup {region}",
        f"  {by_unit} verify {region}",
    )
