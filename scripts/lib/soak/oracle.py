"""Checks a store against the promises, from outside: it knows the store, scripts/recover, an identity and a journal.

Nothing of backupd is imported. The journal is the soak's own: what was in the database when, who left when, what was
seen on the store before.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True)
class Terms:
    """What the configuration promises, written down a second time."""

    window: timedelta = 9 * DAY
    early_within: timedelta = 12 * HOUR
    gap: timedelta = 26 * HOUR
    snapshots: timedelta = 50 * HOUR
    tolerance: timedelta = HOUR
    slack: timedelta = 75 * HOUR
    grace: timedelta = DAY
    leftovers: timedelta = DAY
    keep_within: timedelta = 3 * DAY
    daily: int = 5
    max_age: timedelta = 12 * DAY
    release_within: timedelta = DAY
    drill_every: timedelta = 8 * DAY

    def deadline(self, due: dict[str, Any]) -> datetime:
        """When no byte is left anywhere, the store's own snapshots included."""
        since = datetime.fromisoformat(due["since"])
        if due["early"]:
            return since + self.early_within + self.gap + self.snapshots + self.tolerance
        return datetime.combine((since + self.window).date(), datetime.min.time(), UTC)

    def unreadable(self, due: dict[str, Any]) -> datetime:
        """When nothing of it can be recovered any more: a keeper's run after its purge is due."""
        return self.deadline(due) - self.snapshots - self.tolerance - (timedelta() if due["early"] else self.slack)

    def earliest(self, due: dict[str, Any]) -> datetime:
        """Before that, nothing of it may be missing."""
        since = datetime.fromisoformat(due["since"])
        return since if due["early"] else since + self.grace


@dataclass
class Journal:
    """What the soak wrote down."""

    states: list[tuple[datetime, datetime, dict[str, str]]] = field(default_factory=list)
    dues: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By incarnation, `tenant.incarnation`, where it was not cancelled."""
    returned: dict[str, datetime] = field(default_factory=dict)
    seen: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    """Segments, as `generation/pseudonym`: whose, and when first seen."""
    records: dict[str, datetime] = field(default_factory=dict)
    holds: dict[str, datetime | None] = field(default_factory=dict)
    """Tenants that were ever held, and since when no more."""

    @classmethod
    def read(cls, *paths: Path) -> Journal:
        journal = cls()
        for text in (text for path in paths if path.exists() for text in path.read_text(encoding="utf-8").splitlines()):
            line = json.loads(text)
            kind, incarnation = line["kind"], f"{line.get('tenant')}.{line.get('incarnation')}"
            if kind == "state":
                begun, settled = (datetime.fromisoformat(line[name]) for name in ("begun", "settled"))
                journal.states.append((begun, settled, line["digests"]))
            elif kind == "due":
                journal.dues[incarnation] = line
            elif kind == "cancelled":
                del journal.dues[incarnation]
            elif kind == "returned":
                journal.returned[incarnation] = datetime.fromisoformat(line["at"])
            elif kind in ("held", "released"):
                journal.holds[line["tenant"]] = datetime.fromisoformat(line["at"]) if kind == "released" else None
            elif kind == "segment":
                journal.seen.setdefault(line["segment"], (line["tenant"], datetime.fromisoformat(line["at"])))
            elif kind == "record":
                journal.records.setdefault(line["record"], datetime.fromisoformat(line["exported"]))
        return journal

    def at(self, instant: datetime) -> list[dict[str, str]]:
        """What may have been in the database then: more than one state when it was just changing."""
        settled = [digests for _, end, digests in self.states if end <= instant]
        changing = [digests for begin, end, digests in self.states if begin <= instant < end]
        return settled[-1:] + changing

    def incarnation_of(self, segment: str) -> str | None:
        """Whose a segment is of those with several incarnations: seen before it returned, it is of the one before."""
        tenant, first = self.seen[segment]
        returns = [at for incarnation, at in self.returned.items() if incarnation.rpartition(".")[0] == tenant]
        return f"{tenant}.{1 + sum(at <= first for at in returns)}" if tenant else None


class Checker:
    """Collects what is wrong, as sentences that begin with the promise's number."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.now = datetime.fromisoformat(options.now)
        self.terms = Terms()
        self.seen: Path = options.seen
        self.name = options.seen.name.removeprefix("seen-")
        """The store's, which a copy of it has, too."""
        self.journal = Journal.read(*{options.journal: None, self.seen: None})
        self.faults: list[str] = []
        self.counts: dict[str, int] = dict.fromkeys(("records", "rows", "keyrings", "ledger", "reports", "files"), 0)
        self.recover = load(options.recover)
        self.passphrase = options.passphrase_file.read_text().strip()
        self.secret = self.recover.read_identity(options.identity, self.passphrase)
        self.region = options.store / "be"
        self.store = self.recover.Store(self.region, None)

    def all(self) -> None:
        self.census()
        self.content()
        self.retention()
        self.segments()
        self.ledger_and_reports()
        self.leftovers()
        self.names()

    def census(self) -> None:
        """Write down which segments and records there are now, for later checks."""
        lines = []
        for generation in sorted(path.name for path in (self.region / "keyrings").glob("*")):
            for keyring in self.store.keyrings(generation):
                keyring.open(self.secret)
                for place in keyring.sealed:
                    pseudonym, tenant = keyring.index[place][0], keyring.key(place).tenant
                    lines.append(("segment", f"{generation}/{pseudonym}", tenant or ""))
                self.counts["keyrings"] += 1
        with self.seen.open("a", encoding="utf-8") as out:
            for _, name, tenant in lines:
                if name not in self.journal.seen:
                    self.journal.seen[name] = tenant, self.now
                    line = {"kind": "segment", "segment": name, "tenant": tenant, "at": self.now.isoformat()}
                    out.write(json.dumps(line) + "\n")
            for name in self.store.snapshots():
                if name not in self.journal.records and "reduced" not in (record := self.store.record(name)):
                    exported = record["exported"]
                    self.journal.records[name] = datetime.fromisoformat(exported)
                    out.write(json.dumps({"kind": "record", "record": name, "exported": exported}) + "\n")

    def content(self) -> None:
        """Every record is what was in the database at its exported instant, but for who had to go."""
        for name in self.store.snapshots():
            self.counts["records"] += 1
            out = self.options.out / name.split("/")[1]
            code, said = self._recovered(name, out)
            if code:
                self.faults.append(f"3: recover ends with {code} for {name}: {said}")
            else:
                self._compare(name, self.store.record(name), _digests(out))
            shutil.rmtree(out, ignore_errors=True)

    def retention(self) -> None:
        """What the rules keep is there, and nothing is older than the maximum."""
        kept = {name for name in self.store.snapshots() if "reduced" in self.store.record(name)}
        let_go = self.now - self.terms.release_within - 2 * self.terms.gap
        if kept and not any(end is None or end > let_go for end in self.journal.holds.values()):
            self.faults.append(f"8: {len(kept)} records are kept for a hold, and there is none")
        here, records = set(self.store.snapshots()) - kept, self.journal.records
        days: dict[Any, str] = {}
        for name, exported in sorted(records.items(), key=lambda pair: pair[1]):
            days[exported.date()] = name
            if exported > self.now - self.terms.keep_within and name not in here:
                self.faults.append(f"8: {name} is gone from {self.name}, and is younger than keep_within")
        for day, name in days.items():
            if day > self.now.date() - self.terms.daily * DAY and name not in here:
                self.faults.append(f"8: {name} is gone from {self.name}, the newest of {day}")
        for name in here:
            if records[name] < self.now - self.terms.max_age - self.terms.gap:
                self.faults.append(f"8: {name} is kept beyond max_age")

    def segments(self) -> None:
        """Who is past a date has no key, after the deadline no byte, on the store and in what it shows of itself."""
        views = {"the store": self.region}
        views |= {path.name: path / "be" for path in sorted((self.options.store / ".zfs/snapshot").glob("*"))}
        for where, root in views.items():
            keys = self._keys(root)
            stored = self._stored(root)
            for segment in sorted(self.journal.seen):
                due = self.journal.dues.get(self.journal.incarnation_of(segment) or "")
                if due is None:
                    continue
                if self.now > self.terms.deadline(due) and segment in keys | stored:
                    self.faults.append(f"5: {where} still has {segment} of {due['tenant']} after its deadline")
                if where == "the store" and self.now > self.terms.unreadable(due) and segment in keys:
                    self.faults.append(f"5: {where} still has the key of {segment} of {due['tenant']}")

    def ledger_and_reports(self) -> None:
        """The chain of the ledger holds, and every report in it is there, is signed, and passed."""
        ledger = self.recover.Ledger(self.store)
        if ledger.fault:
            self.faults.append(f"7: the ledger: {ledger.fault}")
        self.counts["ledger"] = len(ledger.heads) - 1
        drilled: list[dict[str, Any]] = []
        times = [self.journal.states[0][0]]
        for number in range(1, self.store.entries() + 1):
            drilled += [event for event in self.store.entry(number)[0]["events"] if event["event"] == "drilled"]
        for event in drilled:
            path = self.region / "reports" / f"{event['drill']}.json"
            if not path.exists():
                self.faults.append(f"10: report {event['drill']} is not there, of which the ledger tells")
                continue
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != event["report"]:
                self.faults.append(f"10: report {event['drill']} is not the one the ledger tells of")
            self.recover.DOCUMENT_LIMITS["report"] = 1 << 20
            report = self.recover.read_document(data, "report", self.store.keepers, path.name)
            times.append(datetime.fromisoformat(report["started"]))
            if report["verdict"] != "pass":
                failed = [one["name"] for one in report["checks"] if one["verdict"] not in ("pass", "skip")]
                self.faults.append(f"10: drill {event['drill']} ended {report['verdict']}: {', '.join(failed)}")
        self.counts["reports"] = len(drilled)
        longest = max(after - before for before, after in pairwise([*times, self.now]))
        if longest > self.terms.drill_every:
            self.faults.append(f"10: {longest} passed without a drill")
        if {path.stem for path in (self.region / "reports").glob("*.json")} - {event["drill"] for event in drilled}:
            self.faults.append("10: there are reports that the ledger does not tell of")

    def leftovers(self) -> None:
        """What an upload left that was cut off is gone a keeper's run after its grace."""
        oldest = self.now - self.terms.leftovers - self.terms.gap
        for path in self.region.glob("tmp/*"):
            if datetime.fromtimestamp(path.stat().st_mtime, UTC) < oldest:
                self.faults.append(f"3: '{path.name}' lies in tmp since {path.stat().st_mtime}")

    def names(self) -> None:
        """No file on the store, in the spool, the state, a log or a page says a name or a row."""
        for root in (self.options.store, *self.options.also):
            for path in [root] if root.is_file() else sorted(root.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    self.counts["files"] += 1
                    if b"zwartewater" in path.read_bytes():
                        self.faults.append(f"1: '{path}' tells a tenant's name")

    def _compare(self, name: str, record: dict[str, Any], found: dict[str, str]) -> None:
        self.counts["rows"] += len(found)
        exported = datetime.fromisoformat(record["exported"])
        states = self.journal.at(exported)
        if "reduced" in record:  # what a hold keeps: of some tenants, what there was
            states = [{key: digest for key, digest in state.items() if key in found} for state in states]
        differences = [self._differences(state, found, exported) for state in states] or [
            ["nothing was in the database then"]
        ]
        self.faults += [f"4: {name}: {what}" for what in min(differences, key=len)]
        for key in found:
            due = self.journal.dues.get(key.partition("/")[0])
            if due is not None and self.now > self.terms.unreadable(due):
                self.faults.append(f"5: {name} gives back {key}, which had to be unreadable")

    def _differences(self, state: dict[str, str], found: dict[str, str], exported: datetime) -> list[str]:
        wrong = [f"{key} was not there" for key in found.keys() - state.keys()]
        for key, digest in state.items():
            if key not in found and not self._may_miss(key.partition("/")[0], exported):
                wrong.append(f"{key} is missing")
            elif found.get(key, digest) != digest:
                wrong.append(f"{key} is another")
        return wrong

    def _may_miss(self, incarnation: str, exported: datetime) -> bool:
        """Who had to go may be gone. Backups hear of a return with the keeper's next reading, and until then leave out
        rows of whoever was purged.
        """
        due, returned = self.journal.dues.get(incarnation), self.journal.returned.get(incarnation)
        if returned is not None and exported < returned + self.terms.gap:
            return True
        return due is not None and self.now >= self.terms.earliest(due)

    def _keys(self, root: Path) -> set[str]:
        found = set()
        for path in root.glob("keyrings/*/*.keyring"):
            keyring = self.recover.Keyring(path.read_bytes(), self.store.trusted, path.name)
            found |= {f"{path.parent.name}/{keyring.index[place][0]}" for place in keyring.sealed}
        return found

    def _stored(self, root: Path) -> set[str]:
        """Every segment of which a pack has a section."""
        found = set()
        for path in root.glob("packs/*/*.pack"):
            data = path.read_bytes()
            pack = self.recover.Pack(lambda offset, length, data=data: data[offset : offset + length], path.name)
            if len(data) != pack.size:
                self.faults.append(f"3: '{path.name}' is not as long as its map says")
            there = zip(pack.rows, pack.there, strict=True)
            found |= {f"{path.parent.name}/{row.segment}" for row, is_there in there if is_there}
        return found

    def _recovered(self, name: str, out: Path) -> tuple[int, str]:
        arguments = [self.options.store, "--identity", self.options.identity, "--out", out]
        arguments += ["--snapshot", name.split("/")[1], "--passphrase-file", self.options.passphrase_file]
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            try:
                return self.recover.run([str(one) for one in arguments]), said.getvalue()
            except self.recover.RecoverError as error:
                return error.code, f"{error} {said.getvalue()}"


def _digests(out: Path) -> dict[str, str]:
    """Of each incarnation's rows of each table, lines sorted, as the journal has them."""
    found = {}
    for path in sorted(out.glob("*/*/*/*.copy")):
        if path.name.split(".")[1] == "draft":  # of a migration, and empty
            continue
        lines = path.read_bytes().splitlines(keepends=True)
        table = path.name.split(".")[1]
        for incarnation, part in _lives(table, lines):
            found[f"{incarnation}/{table}"] = hashlib.sha256(b"".join(sorted(part))).hexdigest()
    return found


def _lives(table: str, lines: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Rows by whose they are, which each row says itself."""
    by: dict[str, list[bytes]] = {}
    for line in lines:
        incarnation = "shared" if table == "country" else line.split(b"\t")[2].split(b" ")[0].decode()
        by.setdefault(incarnation, []).append(line)
    yield from by.items()


@functools.cache
def load(path: Path) -> Any:
    """The script as a module, which opens an identity only once."""
    loader = importlib.machinery.SourceFileLoader("recover", str(path))
    spec = importlib.util.spec_from_loader("recover", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["recover"] = module
    loader.exec_module(module)
    module.read_identity = functools.cache(module.read_identity)
    return module


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    for name in ("recover", "journal", "identity", "passphrase-file", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--seen", type=Path, required=True, help="what was seen on this store before")
    parser.add_argument("--also", type=Path, nargs="*", default=[])
    parser.add_argument("--now", required=True)
    parser.add_argument("--census", action="store_true", help="only write down what there is")
    checker = Checker(parser.parse_args())
    if checker.options.census:
        checker.census()
    else:
        checker.all()
    print(json.dumps({"faults": checker.faults, **checker.counts}))
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(main())
