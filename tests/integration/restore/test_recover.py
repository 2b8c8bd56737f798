"""The stand-alone script against stores of every kind, sound and damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from doubles.paths import RECOVER
from doubles.stores import small_repository
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts
from fix_recover import Recover

from backupd.model import known_keys
from backupd.model.documents import encode_body
from backupd.model.ids import Pseudonym
from backupd.model.tenancy import SegmentName
from backupd.repository.packs import Section
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import write_identity
from backupd.seal.suite import signer_fingerprint
from backupd.store.directory import DirectoryStore

SHARED, ACME = SegmentName("app", "uploaded", None), SegmentName("app", "uploaded", "acme")
BETA = SegmentName("app", "account", "beta & co/../..")
PLANS = Rows("public", "plans", ("id", "name"), tuple(b"%d\tplan\n" % at for at in range(30)))
EMPTY = Rows("public", "empty", ("id",), ())


def issues(word: str, number: int = 20) -> Rows:
    return Rows("public", "issues", ("id", "text"), tuple(f"{at}\t{word}\n".encode() for at in range(number)))


@dataclass
class Place:
    """A store with one identity, and where things go."""

    small: SmallRepository
    root: Path
    folder: Path
    recover: Recover

    def run(self, *more: object, out: str = "out") -> Any:
        return self.recover(self.root, *self.key, "--out", self.folder / out, *more)

    @property
    def key(self) -> tuple[object, ...]:
        return "--identity", self.folder / "id", "--passphrase-file", self.folder / "pass"

    def text(self, name: str) -> bytes:
        return (self.folder / "out" / name).read_bytes()


@pytest.fixture
def place(tmp_path: Path, directory_store: DirectoryStore, recover: Recover) -> Place:
    """Two snapshots of one database: shared rows and two tenants, packs and small parts."""
    small = SmallRepository(directory_store)
    shared = Content((PLANS, EMPTY), {}, (("public", 'odd "seq', -5, False),), facts(refresh=[["public", "mv"]]))
    old = {SHARED: shared, ACME: Content((issues("old"),))}
    small.snapshot(old)
    small.snapshot({**old, ACME: Content((issues("new"),)), BETA: Content((issues("beta", 3),), apart=False)})
    write_identity(tmp_path / "id", "ops", small.identity, "pass")
    (tmp_path / "pass").write_text("pass\n")
    return Place(small, directory_store.root, tmp_path, recover)


def test_every_row_is_written_as_a_plain_file(place: Place) -> None:
    """By tenant and class, in files whose names are safe whatever the names in them are."""
    result = place.run()
    assert result.returncode == 0, result.stderr
    assert place.text("app/shared/uploaded/public.plans.copy") == b"".join(PLANS.rows)
    assert place.text("app/shared/uploaded/public.empty.copy") == b""
    assert place.text("app/tenant-1-acme/uploaded/public.issues.copy") == b"".join(issues("new").rows)
    assert place.text("app/tenant-2-beta_co_.._/account/public.issues.copy") == b"".join(issues("beta", 3).rows)
    assert json.loads(place.text("app/tenants.json"))["tenant-2-beta_co_.._"] == BETA.tenant
    assert {path.name for path in place.folder.iterdir()} == {"id", "pass", "out", "store"}
    assert not list(place.folder.glob("out/**/.work"))


def test_what_it_writes_is_its_owners_only(place: Place) -> None:
    """Plain data is readable by nobody else."""
    place.run()
    written = list((place.folder / "out").rglob("*"))
    assert len(written) > 8
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_the_load_script_names_every_file_with_rows(place: Place) -> None:
    """One transaction, quoted names, sequences last."""
    place.run()
    lines = place.text("app/load.sql").decode().splitlines()
    assert lines[:3] == ["\\set ON_ERROR_STOP on", "\\encoding UTF8", "BEGIN;"]
    assert lines[-1] == "COMMIT;"
    assert lines[-2] == """SELECT pg_catalog.setval('"public"."odd ""seq"', -5, false);"""
    copies = [line for line in lines if line.startswith("\\copy")]
    assert copies[0] == """\\copy "public"."plans" ("id", "name") from 'shared/uploaded/public.plans.copy'"""
    assert len(copies) == 3
    assert '"public"."mv"' in place.text("app/refresh.sql").decode()


def test_an_older_snapshot_can_be_chosen(place: Place) -> None:
    """By the beginning of its name, as listed; the list needs no identity."""
    listed = place.recover(place.root, "--list")
    assert listed.returncode == 0
    first, _second = (line.split()[0] for line in listed.stdout.splitlines())
    assert place.run("--snapshot", first[:20]).returncode == 0
    assert place.text("app/tenant-1-acme/uploaded/public.issues.copy") == b"".join(issues("old").rows)
    ambiguous = place.run("--snapshot", first[:8], out="other")
    assert (ambiguous.returncode, "2 snapshots" in ambiguous.stderr) == (2, True)


def test_one_tenant_can_be_chosen(place: Place) -> None:
    """Its rows and the shared ones are written, nobody else's; an unknown one is an error."""
    assert place.run("--tenant", "acme").returncode == 0
    assert {path.name for path in (place.folder / "out" / "app").iterdir() if path.is_dir()} == {
        "shared",
        "tenant-1-acme",
    }
    unknown = place.run("--tenant", "nobody", out="other")
    assert (unknown.returncode, "no such tenant" in unknown.stderr) == (2, True)


def test_several_databases_are_written_side_by_side(place: Place) -> None:
    """The newest snapshot of each label, and of each database under one label."""
    crm = SegmentName("crm", "uploaded", None)
    place.small.snapshot({crm: Content((PLANS,))}, label="crm")
    for member in ("0" * 16, "1" * 16):
        name = SegmentName(f"customer {member[0]}", "uploaded", f"t{member[0]}")
        place.small.snapshot({name: Content((PLANS,))}, label="hosted", member=member)
    assert place.run().returncode == 0
    assert {path.name for path in (place.folder / "out").iterdir()} == {
        "app", "crm", "hosted-customer_0", "hosted-customer_1"
    }  # fmt: skip
    assert place.run("--database", "crm", out="other").returncode == 0
    assert {path.name for path in (place.folder / "other").iterdir()} == {"crm"}


def test_a_wrong_identity_is_named_as_wrong_before_packs_are_read(place: Place) -> None:
    """At once, so also where no pack is left; so is a wrong passphrase. Neither writes anything."""
    shutil.rmtree(place.root / "packs")
    write_identity(place.folder / "stranger", "x", stranger := suite.generate(), "pass")
    result = place.recover(
        place.root, "--identity", place.folder / "stranger", "--passphrase-file", place.folder / "pass",
        "--out", place.folder / "out",
    )  # fmt: skip
    assert result.returncode == 8
    assert suite.fingerprint(stranger.public) in result.stderr
    assert suite.fingerprint(place.small.identity.public) in result.stderr
    (place.folder / "pass").write_text("other")
    result = place.run()
    assert (result.returncode, "passphrase does not open" in result.stderr) == (8, True)
    assert not (place.folder / "out").exists()


def test_signers_are_told_or_required(place: Place) -> None:
    """Without a signer the store's own are told; with one, only documents it signed are believed."""
    fingerprint = signer_fingerprint(place.small.signer.public)
    assert fingerprint in place.recover(place.root, "--list").stderr
    for good in (fingerprint, place.small.signer.public):
        assert place.recover(place.root, "--list", "--signer", good).returncode == 0
    bad = place.recover(place.root, "--list", "--signer", Signer(os.urandom(32)).public)
    assert (bad.returncode, "not signed by a trusted signer" in bad.stderr) == (7, True)


def test_a_signer_that_anybody_can_be_is_not_believed(place: Place) -> None:
    """The key of 32 zero bytes: beside the store's own it adds nothing, alone it makes no store, none may name it."""
    zero, path = Signer(bytes(32)), place.root / "repository.json"
    info = msgspec.structs.replace(place.small.info, signers=sorted([place.small.signer.public, zero.public]))
    path.write_bytes(place.small.signer.sign(encode_body(info), "repository"))
    assert signer_fingerprint(zero.public) not in place.recover(place.root, "--list").stderr
    path.write_bytes(zero.sign(encode_body(info), "repository"))
    forged = place.recover(place.root, "--list")
    assert (forged.returncode, "not signed by a trusted signer" in forged.stderr) == (7, True)
    for key in (zero.public, signer_fingerprint(zero.public), "00" * 32):
        named = place.recover(place.root, "--list", "--signer", key)
        assert (named.returncode, "anybody can sign with" in named.stderr) == (2, True)


def test_the_recovery_knows_the_same_keys(place: Place) -> None:
    """What it derives itself is what the package lists of signers."""
    source = f"import runpy; print(*sorted(runpy.run_path({str(RECOVER)!r})['known_signers']()))"
    derived = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True).stdout.split()
    seeds = {Signer(seed).public for seed in known_keys.known_seeds(32)}
    assert set(derived) == seeds | {point.hex() for point in known_keys.small_order_points()}


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "cut": lambda data: data[:-1],
    "emptied": lambda _: b"",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_keyring_stops_it_and_is_named(place: Place, change: str) -> None:
    """Without its keys nothing is known of what it opens."""
    path = max(place.root.glob("keyrings/*/*"))
    path.chmod(0o600)
    path.write_bytes(CHANGES[change](path.read_bytes()))
    result = place.run()
    assert (result.returncode, path.name in result.stderr) == (7, True)


def newest_section(place: Place, segment: str) -> Section:
    """The section with the segment's manifest in the newest snapshot."""
    repository = place.small.repository
    return repository.sections(repository.record(repository.snapshots()[-1])).manifests[Pseudonym(segment)]


@pytest.mark.parametrize("where", ["in its blocks", "in its hash"])
def test_a_damaged_section_stops_it_and_is_named(place: Place, where: str) -> None:
    """By pack and segment; with --keep-going the rest is written and the exit status still says damage."""
    segment = place.small.pseudonym(ACME)
    section = newest_section(place, segment)
    path = place.root / section.pack.name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[section.offset + (3 if where == "in its blocks" else section.row.length - 1)] ^= 1
    path.write_bytes(bytes(data))
    result = place.run()
    assert (result.returncode, path.name in result.stderr, segment in result.stderr) == (7, True, True)
    going = place.run("--keep-going", out="rest")
    assert (going.returncode, path.name in going.stderr) == (7, True)
    check_the_rest(place, segment, {"tenant-2-beta_co_.._"})


@pytest.mark.parametrize("change", [*CHANGES, "missing"])
@pytest.mark.parametrize("kept", [True, False], ids=["manifests", "data"])
def test_a_damaged_pack_stops_it_and_is_named(place: Place, change: str, kept: bool) -> None:
    """The newest pack of manifests, or of data: what of its sections can be read is written with --keep-going."""
    acme, beta = (place.small.pseudonym(name) for name in (ACME, BETA))
    section = newest_section(place, acme)
    if not kept:
        record = place.small.repository.record(place.small.repository.snapshots()[-1])
        others = place.small.repository.sections(record).sections
        section = others[Pseudonym(acme), section.row.number - 1]
    path = place.root / section.pack.name
    path.chmod(0o600)
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(CHANGES[change](path.read_bytes()))
    result = place.run()
    assert (result.returncode, path.name in result.stderr) == (7, True)
    going = place.run("--keep-going", out="rest")
    assert (going.returncode, path.name in going.stderr) == (7, True)
    if not kept:
        check_the_rest(place, acme, {"tenant-2-beta_co_.._"})
    elif change in ("missing", "emptied"):
        # Nobody can tell whose the sections of that pack were.
        check_the_rest(place, path.name, set())
        assert beta not in going.stderr


def check_the_rest(place: Place, lost: str, tenants: set[str]) -> None:
    """What is sound was written, what is lost is named, and what is not whole is marked and not loaded."""
    folder = place.folder / "rest" / "app"
    assert (folder / "shared/uploaded/public.plans.copy").read_bytes() == b"".join(PLANS.rows)
    readme = (folder / "README.txt").read_text()
    assert "LEFT OUT OR INCOMPLETE" in readme
    assert lost in readme
    found = {path.name for path in folder.glob("tenant-*") if list(path.rglob("*.copy"))}
    assert found == tenants
    assert len(list(folder.rglob("*.incomplete"))) <= 1
    assert not any("incomplete" in line for line in (folder / "load.sql").read_text().splitlines())


def test_a_damaged_record_is_left_out_aloud(place: Place) -> None:
    """The newest sound one is written, and the exit status says that this is not the newest."""
    path = max(place.root.glob("snapshots/*/*"))
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b'"app"', b'"apq"'))
    result = place.run()
    assert result.returncode == 7
    assert path.name in result.stderr
    assert place.text("app/tenant-1-acme/uploaded/public.issues.copy") == b"".join(issues("old").rows)


def test_a_section_that_is_gone_is_named(place: Place) -> None:
    """By pack, place and segment, when no ledger says why."""
    segment = place.small.pseudonym(BETA)
    section = newest_section(place, segment)
    place.small.take_out(BETA, keys=False)
    result = place.run()
    assert result.returncode == 7
    assert f"{section.where}' is missing" in result.stderr
    assert segment in result.stderr


def test_a_section_that_moved_is_read(place: Place) -> None:
    """Another one was taken out of its pack, of a tenant that was purged."""
    place.small.tell(place.small.purge_began(ACME))
    place.small.take_out(ACME)
    result = place.run()
    assert result.returncode == 0, result.stderr
    assert place.text("app/tenant-1-beta_co_.._/account/public.issues.copy") == b"".join(issues("beta", 3).rows)


def test_a_folder_that_is_not_empty_is_refused(place: Place) -> None:
    """Nothing is mixed with what is there."""
    (place.folder / "out").mkdir()
    (place.folder / "out" / "mine").write_text("x")
    result = place.run()
    assert (result.returncode, "is not empty" in result.stderr) == (10, True)
    assert [path.name for path in (place.folder / "out").iterdir()] == ["mine"]


def test_a_store_of_several_regions_needs_one_named(place: Place) -> None:
    """The folder above is a store too; its regions are told."""
    shutil.copytree(place.root, place.root.parent / "ch")
    above = place.root.parent
    result = place.recover(above, "--list")
    assert (result.returncode, "be, ch" in result.stderr) == (2, True)
    assert place.recover(above, "--list", "--region", "be").returncode == 0
    assert place.recover(above, "--list", "--region", "../be").returncode == 2
    moved = place.recover(above, "--list", "--region", "ch")
    assert (moved.returncode, "the repository of region 'be'" in moved.stderr) == (10, True)
    assert place.recover(place.folder / "nowhere", "--list").returncode == 2


def test_unreadable_files_are_errors_with_their_name(place: Place) -> None:
    """An identity that is none, or not there, is told without a traceback."""
    for content in (None, b"", b"{}", b"x" * 100_000, place.small.signer.public.encode()):
        if content is not None:
            (place.folder / "id").write_bytes(content)
        else:
            shutil.move(place.folder / "id", place.folder / "moved")
        result = place.run()
        assert result.returncode in (1, 2)
        assert str(place.folder / "id") in result.stderr
        assert "Traceback" not in result.stderr


def test_names_that_psql_cannot_copy_to_become_scripts(place: Place) -> None:
    """A table with a newline in its name gets a file of its own statement; names that clash get numbers."""
    odd = Rows("public", "two\nlines", ("a\nb",), (b"1\n",))
    like = [Rows("public", name, ("a",), (b"%d\n" % at,)) for at, name in enumerate(["T", "t", "t?", "t*"])]
    place.small.snapshot({SHARED: Content((odd, *like), facts=facts())})
    assert place.run().returncode == 0
    assert place.text("app/shared/uploaded/public.two_lines.sql") == (
        b'COPY "public"."two\nlines" ("a\nb") FROM STDIN WITH (ENCODING :\'rows_encoding\');\n1\n\\.\n'
    )
    assert "\\ir 'shared/uploaded/public.two_lines.sql'" in place.text("app/load.sql").decode()
    found = sorted(path.name.lower() for path in (place.folder / "out/app/shared/uploaded").glob("*.copy"))
    assert len(set(found)) == 4


def test_rows_in_a_script_hold_no_commands(place: Place) -> None:
    """Who signs a false snapshot writes any bytes as rows: psql must not obey them, wherever a piece of them ends."""
    odd = Rows("public", "two\nlines", ("a",), (b"1\n", b"\\.\n2\n"))
    place.small.snapshot({SHARED: Content((odd,), facts=facts())})
    result = place.run()
    assert (result.returncode, "has a row that COPY does not write" in result.stderr) == (7, True)


def test_rows_that_are_not_what_the_manifest_says_are_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans are compared with the rows themselves; the file is marked as incomplete."""
    monkeypatch.setattr(small_repository, "_spans", lambda rows: [(len(rows), sum(map(len, rows)), bytes(32))])
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts())})
    result = place.run()
    assert (result.returncode, "does not have the digest" in result.stderr) == (7, True)
    assert [path.name for path in (place.folder / "out").rglob("*.incomplete")] == ["public.plans.copy.incomplete"]


def test_rows_the_facts_do_not_count_are_told(place: Place) -> None:
    """A table with fewer rows in its segments than were read is damage."""
    place.small.snapshot({SHARED: Content((PLANS,), facts=facts(tables=[["public", "plans", 31]]))})
    result = place.run()
    assert (result.returncode, "not as many rows as were backed up in 1 table" in result.stderr) == (7, True)


def test_memory_is_bounded(place: Place, bare_python: Path) -> None:
    """A table of 120 MB is written within a small part of that."""
    row = os.urandom(30_000).hex().encode() + b"\n"
    big = Rows("public", "big", ("x",), tuple(row for _ in range(2000)))
    place.small.snapshot({SHARED: Content((big,), facts=facts(), chunk=60_001, block=10)})
    probe = place.folder / "probe.py"
    probe.write_text(
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:]).returncode\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(code)\n"
    )
    import subprocess

    command = [bare_python, probe, bare_python, RECOVER, place.root, *place.key, "--out", place.folder / "out"]
    result = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    assert (place.folder / "out/app/shared/uploaded/public.big.copy").stat().st_size == len(row) * 2000
    assert int(result.stdout.split()[-1]) < 190 * 1024


def test_without_a_terminal_the_passphrase_is_in_a_file(place: Place) -> None:
    """Which is said, in place of a traceback."""
    result = place.recover(place.root, *place.key[:2], "--out", place.folder / "out")

    assert result.returncode == 2, result.stderr
    assert "there is no terminal to ask for the passphrase on" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_its_packages_it_says_how_to_get_them(place: Place) -> None:
    """On a bare machine, with no more than Python."""
    result = subprocess.run(
        [sys.executable, "-I", "-S", RECOVER, place.root, "--list"], check=False, capture_output=True, text=True
    )

    assert result.returncode == 1
    assert "pip install 'cryptography>=50' zstandard" in result.stderr
    assert "Traceback" not in result.stderr
