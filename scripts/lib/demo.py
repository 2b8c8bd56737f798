"""The demo: from nothing to a proven restore, with the real command line, servers and bytes."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from doubles.servers.postgres import SUPERUSER

from backupd.seal.pack import PresenceMap, read_header
from lib import demo_stage, sample_databases
from lib.console import Voice, megabytes, thousands
from lib.demo_stage import Content, DemoError, Scene
from lib.servers import Region

OPS = ("--identity", "ops.identity", "--passphrase-file", "ops.passphrase")
LEAVING = "7"
"""A customer of be's tracker."""
FORGOTTEN = ("public.session", "public.sync_event_january", "public.sync_event_february", "public.sync_event_later")
"""Tables of the classes session and operation: temporary data, whose rows no backup keeps."""


def main() -> int:
    """Play the demo; the exit status is 0 when everything turned out as promised."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep everything running until Enter, and the files after")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    voice, began = Voice(), time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="backupd-demo-"))
    try:
        with ExitStack() as stack:
            tour(stack, folder, voice)
            voice.say(f"All this took {time.monotonic() - began:.0f} seconds.")
            if options.keep:
                wait(voice, folder)
    except DemoError as error:
        voice.bad(f"This is not what was promised: {error}")
        return 1
    except KeyboardInterrupt:
        voice.say("Stopped; everything is taken down.")
        return 130
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def tour(stack: ExitStack, folder: Path, voice: Voice) -> None:
    """Every step, in order."""
    voice.title("backupd: from nothing to a proven restore")
    voice.say(f"Everything happens in {folder} and in servers of its own, which are gone at the end.")
    voice.step("Two regions come to life")
    act = demo_stage.build(stack, folder, voice)
    regions(act)
    keys(act)
    mapping(act)
    begun = first_backup(act)
    second_backup(act)
    unreadable(act)
    damage(act)
    restored(act)
    back_in_time(act, *begun)
    recovered(act)
    erased(act)
    closing(act)


def regions(act: Scene) -> None:
    """1: say what was set up."""
    say, major = act.voice.say, act.be.server.major
    say(f"""be: PostgreSQL {major} with an issue tracker that 200 customers share, the biggest with a sixth of the
        rows, and a database of figures where each of {len(demo_stage.CUSTOMERS)} customers has a schema.""")
    say(f"ca: PostgreSQL {major} with a database for each of {len(demo_stage.CUSTOMERS)} customers.")
    say(f"The stores zurich and toronto are folders of an SSH account ({act.served_by}).")


def keys(act: Scene) -> None:
    """2: keys and configuration."""
    act.voice.step("Keys, and the configuration")
    act.voice.say("""Two identities can read the backups: one for operations, one in escrow. This machine will only
        use their public halves. It has signing keys of its own, one as the writer and one as the keeper, who removes;
        and the tenant key, from which the opaque ids are made that stand for tenants on the store.""")
    for name in ("ops", "escrow"):
        act.backupd("key", "generate", f"{name}.identity", "--passphrase-file", f"{name}.passphrase")
    act.backupd("key", "generate", "--tenant-key", "tenant.key")
    signer, keeper = (
        act.backupd("key", "generate", "--signer", f"{name}.key").split()[-1] for name in ("signing", "keeper")
    )
    act.configure(signer, keeper)
    act.voice.say("The configuration names servers, stores with their pinned host keys, and whose rows are whose.")
    act.backupd("config", "check")


def mapping(act: Scene) -> None:
    """3: tenancy and init."""
    act.voice.step("Whose is which row?")
    act.voice.say("A table nobody mapped would stop the backup. `tenancy` shows how each one is mapped.")
    act.backupd("tenancy", "be", "--database", "tracker")
    act.backupd("tenancy", "be", "--database", "figures")
    act.voice.step("A repository for each region")
    act.voice.say("The store is tried out first; what it can do is kept in the repository, signed.")
    act.backupd("init")


def first_backup(act: Scene) -> tuple[str, dict[str, Content]]:
    """4: back up; returns the time of it, and what the trackers held."""
    act.voice.step("The first backup")
    held = demo_stage.contents(act.be, "tracker")
    act.backupd("backup")
    taken = act.facts("snapshots", "be")
    return newest(taken, "tracker")["exported"], held


def second_backup(act: Scene) -> None:
    """5: a day's changes, and a backup that sends only them."""
    act.voice.step("A day later")
    with act.be.server.connect("tracker") as connection:
        changed = sample_databases.change_tracker(connection)
    act.voice.say(f"{thousands(changed)} rows of be's tracker were changed or added, scattered over all customers.")
    act.backupd("backup", "be", "--database", "tracker")
    act.backupd("snapshots", "be")
    first, second = (one["totals"] for one in trackers(act.facts("snapshots", "be")))
    act.voice.good(
        f"""The first run sent {megabytes(first["added"])}, the second {megabytes(second["added"])} for as many rows."""
    )


def unreadable(act: Scene) -> None:
    """6: what the store, and a thief of this machine, see."""
    act.voice.step("What the store sees")
    for path in sorted((act.home / "zurich" / "be").rglob("*.pack"))[:2]:
        act.voice.output([str(path.relative_to(act.home))])
    words = [sample_databases.MARKER.encode(), b"@customer.example", *(name.encode() for name in demo_stage.CUSTOMERS)]
    folders = (act.home, act.folder / "spool", act.folder / "state")
    count, size, hits = demo_stage.files_holding(words, *folders)
    if hits:
        raise DemoError(f"a customer's name stands in {hits[0]}")
    act.voice.good(f"""Looked through {thousands(count)} files, {megabytes(size)}, on the store and in this machine's
        spool and state: no customer's name, no address, no row.""")


def damage(act: Scene) -> None:
    """7: verify is green, and red when it must be."""
    act.voice.step("Verify, and see it fail")
    act.backupd("verify", "--read-data", "all", *OPS)
    pack = max((act.home / "zurich" / "be").rglob("*.pack"), key=lambda path: path.stat().st_size)
    sound = pack.read_bytes()
    act.voice.say("Now one bit of one object is flipped behind everybody's back.")
    middle = len(sound) // 2
    pack.chmod(0o600)
    pack.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
    act.backupd("verify", "be", "--read-data", "all", *OPS, expect=7)
    act.voice.good("A check that cannot fail proves nothing; this one can. The bit is put back.")
    pack.write_bytes(sound)


def restored(act: Scene) -> None:
    """8: restore the latest snapshot, and compare every table."""
    act.voice.step("Restore into a new database")
    act.backupd("restore", "database", "be", "tracker", "--target", target(act, "tracker_restored"), *OPS)
    compare(act, demo_stage.contents(act.be, "tracker"), act.be, "tracker_restored")


def back_in_time(act: Scene, moment: str, held: dict[str, Content]) -> None:
    """9: restore as it was before the changes."""
    act.voice.step("Restore as it was before the changes")
    dsn = target(act, "tracker_before")
    act.backupd("restore", "database", "be", "tracker", "--snapshot", moment, "--target", dsn, *OPS)
    compare(act, held, act.be, "tracker_before", quiet=True)


def recovered(act: Scene) -> None:
    """10: without backupd."""
    act.voice.step("The bad day: only the store and an identity are left")
    act.voice.say("""The store holds a script that needs two Python packages and no backupd. It writes plain files,
        and the commands that load them, which are then run on the other region's server.""")
    shutil.copytree(act.home / "zurich" / "be", act.folder / "fetched")
    script(act, "fetched", "--identity", "escrow.identity", "--passphrase-file", "escrow.passphrase",
           "--database", "tracker", "--out", "recovered")  # fmt: skip
    guide = next((act.folder / "recovered").rglob("README.txt"))
    act.voice.command(f"sh <the commands of {guide.relative_to(act.folder)}>")
    loaded(act, guide)
    compare(act, demo_stage.contents(act.be, "tracker"), act.ca, "tracker", quiet=True)


def erased(act: Scene) -> None:
    """11: one customer leaves, and nobody else notices."""
    act.voice.step("A customer asks to be erased")
    before = hashes(act)
    act.backupd("tenant", "erase", "be", LEAVING)
    after = hashes(act)
    gone = before.keys() - after.keys()
    changed = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    if not gone or not all("section" in name for name in gone) or not all("/keyrings/" in name for name in changed):
        raise DemoError("an erasure touched what is not the customer's")
    kept = thousands(len(before) - len(gone) - len(changed))
    act.voice.good(f"""{len(gone)} sections of this customer are gone, and {len(changed)} keyrings lost its keys.
        All the other {kept} sections and files are what they were, byte for byte.""")
    act.backupd("tenant", "where", "be", LEAVING)
    act.backupd("verify", "be")
    act.backupd("ledger", "verify", "be")
    act.voice.good("Verify is green: the signed ledger says why these objects are not there.")


def hashes(act: Scene) -> dict[str, str]:
    """Every file of be on the store; of a pack, its header, and each section that is there."""
    found = {}
    for path in sorted((act.home / "zurich" / "be").rglob("*")):
        if path.suffix == ".pack":
            found |= {f"{path}, {what}": hashlib.sha256(data).hexdigest() for what, data in pieces(path)}
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def pieces(path: Path) -> Iterator[tuple[str, bytes]]:
    """A pack's header and its sections, each with its name."""
    data = path.read_bytes()
    header = read_header(data, path.name)
    yield "header", header.raw
    there = PresenceMap.read(header, data[len(header.raw) : len(header.raw) + header.map_size], path.name)
    for at in there.there:
        yield f"section {at}", data[there.offsets[at] : there.offsets[at + 1]]


def loaded(act: Scene, guide: Path) -> None:
    """Run the commands that the script wrote for whoever loads its files."""
    commands = "\n".join(line for line in guide.read_text().split("\n") if line.startswith("  "))
    server = act.ca.server
    where = {"PGHOST": str(server.sockets), "PGPORT": str(server.port), "PGUSER": SUPERUSER}
    done = subprocess.run(
        ["sh", "-e", "-c", commands], env=act.environment | where, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DemoError(f"loading what was recovered failed: {done.stderr}")


def closing(act: Scene) -> None:
    """What happened, and where to look next."""
    act.voice.step("What you saw")
    act.voice.say("""Two regions were backed up at one instant each, split by customer, sealed on this machine to keys
        it does not have, and shipped over SSH. Unchanged rows were not sent again. Damage was found. Databases came
        back equal to their source, at two instants, and without backupd. One customer was taken out of all
        backups, and nobody else.""")
    act.voice.say("""Next: README.md has the way from here to your own databases; `backupd manual` has everything else.
        `scripts/demo --keep` leaves all this running to play with.""")


def compare(act: Scene, source: dict[str, Content], region: Region, database: str, *, quiet: bool = False) -> None:
    """Every table of a restored database with what it must be."""
    found = demo_stage.contents(region, database)
    rows = []
    for name, content in source.items():
        expected = demo_stage.digest_of([]) if name in FORGOTTEN else content
        if found.get(name) != expected:
            raise DemoError(f"the table {name} came back different")
        verdict = "structure only, by its class" if name in FORGOTTEN else "equal"
        rows.append((name, thousands(content.rows), content.digest[:16], found[name].digest[:16], verdict))
    if set(found) != set(source):
        raise DemoError(f"the tables of {database} are not those of the source")
    if not quiet:
        act.voice.table(("table", "rows", "source", "restored", ""), rows, frozenset({1}))
    kept = sum(row[-1] == "equal" for row in rows)
    act.voice.good(f"All {kept} tables with rows to keep are equal to the source, to the byte of COPY.")


def target(act: Scene, database: str) -> str:
    """Where to restore to: the same server, as its superuser."""
    return act.be.server.conninfo(database)


def trackers(taken: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in listed(taken) if one["database"] == "tracker"]


def newest(taken: dict[str, Any], label: str) -> dict[str, Any]:
    return [one for one in listed(taken) if one["database"] == label][-1]


def listed(taken: dict[str, Any]) -> list[dict[str, Any]]:
    return taken["regions"][0]["snapshots"]


def script(act: Scene, *arguments: str) -> None:
    """Run the store's own script, with a Python that has its two packages and is told nothing of backupd."""
    act.voice.command("python3 fetched/recover " + " ".join(arguments))
    command = [sys.executable, "-P", act.folder / "fetched" / "recover", *arguments]
    done = subprocess.run(
        command,
        cwd=act.folder,
        env=act.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    act.voice.output(demo_stage.shortened((done.stdout + done.stderr).rstrip("\n").split("\n")))
    if done.returncode:
        raise DemoError(f"the script ended with status {done.returncode}")


def wait(voice: Voice, folder: Path) -> None:
    """Until Enter, or the end of input."""
    voice.say(f"""Everything still runs. In another terminal: `cd {folder}`, `export BACKUPD_CONFIG=backupd.toml`, and
        try it. Press Enter here to stop the servers; the files stay.""")
    with contextlib.suppress(EOFError):
        input()


if __name__ == "__main__":
    sys.exit(main())
