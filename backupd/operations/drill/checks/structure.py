"""Checks 4 to 8: sequences, constraints, indexes, extensions and collations, roles; and the rest of the schema."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, cast

from backupd.model.facts import SnapshotFacts, snapshot_facts
from backupd.model.manifest import SequenceValue
from backupd.model.report import Check, CheckFinding, CheckName
from backupd.operations.drill.checks.twin import read_twin
from backupd.operations.drill.named_findings import without_password
from backupd.operations.drill.types import Findings
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.client_programs import Client, client, failure, find_programs
from backupd.postgres.connect import identifier, resolved
from backupd.postgres.schema.archive import unpack_entries
from backupd.postgres.schema.compare import (
    ComparedSchema,
    Difference,
    changed_lines,
    differences,
    object_digests,
    outline,
    read_schema,
    reader_of,
)
from backupd.postgres.schema.dump import dump_globals, dump_schema, large_objects_command
from backupd.postgres.schema.roles import without_grantor
from backupd.postgres.schema.statements import split_statements, words_in
from backupd.postgres.scratch import watch
from backupd.postgres.source.exported import connect_beside, hold
from backupd.postgres.source.facts import read_facts, read_sequences

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrillScene

_ROLES = ("CREATE ROLE ", "ALTER ROLE ", "GRANT ", "COMMENT ON ROLE ", "SECURITY LABEL ")


@dataclass(frozen=True, slots=True)
class Structure:
    """The roles, sequences and facts of the restored database, and the differences of its schema."""

    differences: Counter[Difference]
    """Differences from the restored database's twin, and from the list of objects in the archive; each once."""
    schemas: tuple[ComparedSchema, ComparedSchema]
    """The twin's schema, and the restored one."""
    not_valid: frozenset[str]
    """Constraints that were never validated in the twin."""
    sequences: list[SequenceValue]
    facts: SnapshotFacts
    globals: list[str]
    large_objects: Counter[str]
    constraints: watch.FaultyObjects
    indexes: watch.FaultyObjects

    def report(self, findings: Findings, what: str, one: Difference, count: int) -> None:
        """Add a difference to a check's findings, under `what`."""
        if count:
            findings.add(f"{what}-{one.how}", count)
            findings.name_it(f"{what}-{one.how}", str(one), changed_lines(one, *self.schemas))


def read_structure(scene: DrillScene) -> Structure:
    """Read the restored database's structure. Raises SourceError, DamageError."""
    contents, plan, source = scene.restored.contents, scene.restored.plan, scene.restored.source
    head, entries, _ = contents.schema(plan)
    names = NamePatterns(
        scene.environment.tenancies[scene.subject.record.database], scene.subject.choice.record.database
    )
    twin = read_twin(source, head, entries, names, scene.environment.random(4).hex())
    archive = read_schema(head, entries)
    with hold(source, single=False) as holder, connect_beside(source, holder) as free:
        connection = holder.connection
        programs = find_programs(source.client_folders, connection.info.server_version)
        with client(programs, resolved(connection)) as started:
            ddl = dump_schema(started, holder.exported, names)
            roles = dump_globals(started, connection, names)
            objects = _large_objects(started, large_objects_command(started, connection, holder.exported))
        found = read_schema(ddl.head, ddl.entries.values())
        return Structure(
            # A fault of both loads shows in the archive's own list only.
            differences=differences(twin.schema, found) | differences(outline(archive), outline(found)),
            schemas=(twin.schema, found),
            not_valid=twin.not_valid,
            sequences=read_sequences(connection, free),
            facts=snapshot_facts(read_facts(connection)),
            globals=list(roles.values()),
            large_objects=objects,
            constraints=watch.constraints(free),
            indexes=watch.indexes(free),
        )


def count_listed(scene: DrillScene) -> int:
    """Count what the snapshot lists: segments, tables, sequences, definitions, roles. Raises DamageError."""
    contents, plan = scene.restored.contents, scene.restored.plan
    definitions = sum(1 for file in contents.file(plan, "ddl") for _ in unpack_entries(file))
    roles = sum(file.count(b"\n") for file in contents.file(plan, "globals"))
    rows = scene.subject.record.segments * max(1, len(plan.tables))
    return max(1, rows + len(plan.sequences) + len(plan.facts.tables) + definitions + roles)


def check_sequences(scene: DrillScene, structure: Structure) -> Check:
    """Check that each sequence has the value it had; a lower one would give numbers a second time."""
    findings = Findings(CheckName.SEQUENCES, names=scene.names)
    there = {(schema, name): (value, called) for schema, name, value, called in structure.sequences}
    for schema, name, value, called in scene.restored.plan.sequences:
        findings.examined += 1
        found = there.pop((schema, name), None)
        if found is None:
            findings.each("sequence-missing", [f"{schema}.{name}"])
        elif found != (value, called):
            findings.one(
                "sequence-lower" if found < (value, called) else "sequence-higher",
                f"{schema}.{name}",
                [_sequence("-", value, called), _sequence("+", *found)],
            )
    findings.each("sequence-added", [f"{schema}.{name}" for schema, name in there])
    return findings.check()


def check_constraints(scene: DrillScene, structure: Structure) -> Check:
    """Check that all constraints are there, as they were, and valid if they were.

    Foreign keys that the restore reported as broken are excused: they hold for new rows, or do not exist.
    """
    findings = Findings(CheckName.CONSTRAINTS, structure.constraints.total, scene.names)
    broken = scene.restored.broken_keys
    excused = Counter(("changed" if key.kept else "missing", f"{key.table} {key.constraint}") for key in broken)
    for one, count in structure.differences.items():
        if one.kind.endswith("CONSTRAINT"):
            fine = min(count, excused[one.how, one.tag]) if one.kind == "FK CONSTRAINT" else 0
            excused[one.how, one.tag] -= fine
            structure.report(findings, "constraint", one, count - fine)
    not_valid = [name for name in structure.constraints.faulty if name not in structure.not_valid]
    findings.add("constraint-not-valid", max(0, len(not_valid) - sum(key.kept for key in broken)))
    for name in not_valid:
        findings.name_it("constraint-not-valid", name)
    findings.note("key-to-purged-rows", len(broken))
    for key in broken:
        findings.name_it("key-to-purged-rows", f"{key.table} {key.constraint}")
    return findings.check()


def check_indexes(scene: DrillScene, structure: Structure) -> Check:
    """Check that all indexes are there, as they were, and none is invalid."""
    findings = Findings(CheckName.INDEXES, structure.indexes.total, scene.names)
    _count(findings, structure, "index", lambda kind: kind.startswith("INDEX"))
    findings.each("index-invalid", structure.indexes.faulty)
    return findings.check()


def check_extensions(scene: DrillScene, structure: Structure) -> Check:
    """Check extensions with their versions and schemas, and collations by provider.

    A collation whose version differs is noted as no fault: this machine's libraries differ, and a restore builds every
    index with them.
    """
    findings = Findings(CheckName.EXTENSIONS, names=scene.names)
    expected, found = scene.restored.plan.facts, structure.facts
    one, other = (
        {name: (version, schema) for name, version, schema in facts.extensions} for facts in (expected, found)
    )
    findings.examined = len(one) + len(expected.collations)
    findings.each("extension-missing", sorted(one.keys() - other.keys()))
    findings.each("extension-added", sorted(other.keys() - one.keys()))
    both = sorted(one.keys() & other.keys())
    findings.each("extension-version", [name for name in both if one[name][0] != other[name][0]])
    findings.each("extension-schema", [name for name in both if one[name][1] != other[name][1]])
    made, there = (_collations(facts) for facts in (expected, found))
    findings.each("collation-missing", [" ".join(name) for name in sorted(made.keys() - there.keys())])
    findings.note("collation-version", sum(made[key] != there[key] for key in made.keys() & there.keys()))
    _count(findings, structure, "extension", lambda kind: kind == "EXTENSION")
    return findings.check()


def check_globals(scene: DrillScene, structure: Structure) -> Check:
    """Check every role with its attributes, settings and memberships; roles the server had before are left out."""
    findings = Findings(CheckName.GLOBALS, names=scene.names)
    contents, plan, own = scene.restored.contents, scene.restored.plan, scene.restored.roles
    files = [file.decode(errors="surrogateescape") for file in contents.file(plan, "globals")]
    # One of them made the source's server, and granted what here the superuser of this server grants.
    superusers = {*own, *(name for file in files for name in _superusers(file))}
    wanted = Counter(without_grantor(one, superusers) for one in _role_statements(files, own))
    there = Counter(without_grantor(one, superusers) for one in _role_statements(structure.globals, own))
    findings.examined = wanted.total()
    findings.each("role-differs", map(without_password, (wanted - there).elements()))
    findings.each("role-added", map(without_password, (there - wanted).elements()))
    return findings.check()


def other_faults(scene: DrillScene, structure: Structure) -> list[CheckFinding]:
    """Find other differences: large objects, tables, functions, views, privileges, comments."""
    findings = Findings(CheckName.EQUALITY, names=scene.names)
    contents, plan = scene.restored.contents, scene.restored.plan
    expected: Counter[str] = Counter()
    for archive in contents.large_objects(plan):
        expected += object_digests(reader_of(archive))
    findings.each("large-objects-missing", (expected - structure.large_objects).elements())
    findings.each("large-objects-added", (structure.large_objects - expected).elements())
    for one, count in structure.differences.items():
        if not (one.kind.endswith("CONSTRAINT") or one.kind.startswith("INDEX") or one.kind == "EXTENSION"):
            structure.report(findings, "schema", one, count)
    return findings.check().findings


def _sequence(sign: str, value: int, called: bool) -> str:
    return f"{sign} {value}, {'used' if called else 'not used yet'}"


def _large_objects(started: Client, command: list[str] | None) -> Counter[str]:
    if command is None:
        return Counter()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(started.environment),
    ) as process:
        found = object_digests(cast("IO[bytes]", process.stdout).read)
    if process.returncode:
        raise failure("pg_dump", process.returncode, b"")
    return found


def _count(findings: Findings, structure: Structure, what: str, ours: Any) -> None:
    for one, count in structure.differences.items():
        if ours(one.kind):
            structure.report(findings, what, one, count)


def _collations(facts: SnapshotFacts) -> dict[tuple[str, str, str], str | None]:
    return {(schema, name, provider): version for schema, name, provider, version in facts.collations}


def _superusers(script: str) -> Iterator[str]:
    for statement in split_statements(script):
        if statement.startswith("ALTER ROLE ") and " WITH SUPERUSER " in statement:
            yield from [word.text for word in words_in(statement) if not word.key][:1]


def _role_statements(scripts: Iterable[str], own: Collection[str]) -> Sequence[str]:
    """Return the role statements without those that make the server's own roles, which a new server always has."""
    names = [identifier(name) for name in own]
    names += [name for name in own if re.fullmatch(r"[a-z_][a-z0-9_]*", name)]  # pg_dumpall quotes others only
    made = tuple(f"{word} ROLE {name}{end}" for name in names for word, end in (("CREATE", ";"), ("ALTER", " ")))
    return [
        statement.strip()
        for script in scripts
        for statement in split_statements(script)
        if statement.strip().startswith(_ROLES) and not statement.strip().startswith(made)
    ]
