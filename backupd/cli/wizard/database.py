"""The questions about the database: where it is, whether our role can read it, and how its tables belong to tenants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from backupd.cli import output
from backupd.cli.output import TextTable
from backupd.cli.waiting_line import counted_seconds
from backupd.cli.wizard import dialogue
from backupd.config.draft import complaint
from backupd.errors import BackupdError, RefusedError
from backupd.model.findings import Severity
from backupd.model.inventory import Inventory, TableName
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.model.text import counted
from backupd.operations.first_look import look_into
from backupd.operations.tenancy.report import describe, report_tenancy
from backupd.planning.mapping.first_rules import (
    OpenTable,
    joined_rules,
    open_tables,
    tenant_column_candidates,
    tenant_table,
)
from backupd.planning.mapping.tables import map_tables
from backupd.planning.mapping.toml_rules import pattern_of, rule_keys, tables_lines, tenancy_line
from backupd.postgres.connect import Source

PASSFILE = "pgpass"
_KINDS = (
    ("by a column, such as tenant_id", TenancyKind.COLUMN),
    ("by schema: each tenant has one", TenancyKind.SCHEMA),
    ("not at all: there are no tenants in it", TenancyKind.NONE),
)


@dataclass(frozen=True, slots=True)
class DatabaseAnswers:
    """The place of the database, with its tables as the first look found them."""

    label: str
    dsn: str
    source: Source
    inventory: Inventory


def ask_database(staged: Path) -> DatabaseAnswers:
    """Ask where the database is until our role can read it; a password goes into `staged`/pgpass.

    Raises RefusedError when somebody gives up.
    """
    dialogue.say("", "The database. The role should read everything and change nothing:")
    dialogue.say("  CREATE ROLE backupd LOGIN BYPASSRLS; GRANT pg_read_all_data TO backupd;")
    given = {"host": "/var/run/postgresql", "port": "5432", "dbname": "", "user": "backupd"}
    while True:
        given = {
            "host": dialogue.ask("Host or folder of the socket", given["host"]),
            "port": dialogue.ask("Port", given["port"], _number),
            "dbname": dialogue.ask("Database", given["dbname"]),
            "user": dialogue.ask("Role", given["user"]),
        }
        dsn = " ".join(f"{key}={_quoted(value)}" for key, value in given.items())
        source = Source(dsn, _write_passfile(staged / PASSFILE, given))
        try:
            with counted_seconds("looking into the database"):
                look = look_into(source)
        except BackupdError as error:
            dialogue.complain(error)
        else:
            for one in look.findings:
                dialogue.say(f"  {one.severity}: {one.message}", f"    {one.hint}")
            if all(one.severity is not Severity.ERROR for one in look.findings):
                label = dialogue.ask("A short name for it in commands", _label(given["dbname"]), _name)
                return DatabaseAnswers(label, dsn, source, look.inventory)
        if not dialogue.agree("Try again?", default=True):
            raise RefusedError(dialogue.STOPPED, hint="`backupd manual service` says how to do it by hand.")


def _write_passfile(path: Path, given: dict[str, str]) -> Path | None:
    password = dialogue.secret("Password (empty: none is asked for)")
    path.unlink(missing_ok=True)
    if not password:
        return None
    host = "*" if given["host"].startswith("/") else given["host"]  # libpq has another word for sockets
    parts = (host, given["port"], "*", given["user"], password)
    path.touch(mode=0o600)
    path.write_text(
        ":".join("*" if part == "*" else part.replace("\\", "\\\\").replace(":", "\\:") for part in parts) + "\n"
    )
    return path


def ask_tenancy(source: Source, inventory: Inventory) -> Tenancy:
    """Ask by what the rows belong to tenants, and what about each table, and each row, that this does not cover.

    Raises what reading the database raises.
    """
    while True:
        dialogue.say("", "How do rows belong to tenants?")
        kind = _KINDS[dialogue.choose("Choice", [text for text, _ in _KINDS])][1]
        tenancy, seen = _first_rule(source, inventory, kind)
        asked: set[TableName] = set()
        while (found := next((one for one in open_tables(tenancy, seen) if one.table not in asked), None)) is not None:
            asked.add(found.table)  # one by one: what is settled for a table may settle others
            tenancy = replace(tenancy, rules=joined_rules((*tenancy.rules, _ask_rule(found))))
        tenancy = _ask_about_strays(source, tenancy)
        unmapped = open_tables(tenancy, seen)
        lines = describe(seen, map_tables(tenancy, seen), tenancy)
        dialogue.show("", *output.aligned(TextTable(("table", "mapped by"), [(one.table, one.route) for one in lines])))
        dialogue.say("", "As the configuration will say it:", "")
        dialogue.show(*(f"  {line}" for line in written(tenancy)), "")
        dialogue.say(*(f"  Still open: {one.table.dotted}: {one.reason}" for one in unmapped))
        if not unmapped and dialogue.agree("Is that right?", default=True):
            return tenancy


def _first_rule(source: Source, inventory: Inventory, kind: TenancyKind) -> tuple[Tenancy, Inventory]:
    if kind is TenancyKind.COLUMN:
        found = list(tenant_column_candidates(inventory))
        dialogue.say(*(["Columns that may name the tenant, likely ones first: " + ", ".join(found)] if found else []))
        column = dialogue.ask("The column that says whose a row is", found[0] if found else "")
        with counted_seconds("looking into the database"):
            seen = look_into(source, frozenset({column})).inventory
        return Tenancy(kind, column=column, table=_ask_tenant_table(seen, column)), seen
    if kind is TenancyKind.SCHEMA:
        pattern = dialogue.ask(
            "A regular expression for the tenants' schemas, with the group (?P<tenant>…)",
            "tenant_(?P<tenant>.+)",
            lambda text: complaint("tenant pattern", text),
        )
        return Tenancy(kind, schema_pattern=pattern), inventory
    return Tenancy(kind), inventory


def _ask_tenant_table(inventory: Inventory, column: str) -> TableName | None:
    """Ask for the tenants' own table, by which their other tables are found, when there is one."""
    found = tenant_table(inventory, column)
    known = {table.name.dotted: table.name for table in inventory.tables}
    answer = dialogue.ask(
        "The table of the tenants themselves, or none",
        found.dotted if found else "none",
        lambda text: "" if text in {*known, "none"} else "is no table here; write it as schema.table",
    )
    return known.get(answer)


def written(tenancy: Tenancy) -> tuple[str, ...]:
    """Return the lines of the database's section that say whose its rows are."""
    return (tenancy_line(tenancy), *tables_lines(tenancy.rules))


def _ask_about_strays(source: Source, tenancy: Tenancy) -> Tenancy:
    """Count rows without a tenant, as a backup stops at them, and ask what they are."""
    with counted_seconds("counting rows without a tenant"):
        lines = report_tenancy("", source, tenancy).lines
    found = [line for line in lines if line.mapped and line.refuses and line.without]
    if not found:
        return tenancy
    dialogue.say("", "Rows without a tenant, at which a backup stops:")
    dialogue.say(*(f"  {line.table}: {line.without} of {counted(line.counted or 0, 'row')}" for line in found))
    choices = [
        'null_tenant = "shared": they belong to no tenant, and stay when one is purged',
        "none: somebody gives them a tenant before the first backup",
    ]
    return replace(tenancy, null_tenant="shared") if dialogue.choose("Choice", choices) == 0 else tenancy


def _ask_rule(one: OpenTable) -> TableRule:
    shared = TableRule((pattern_of(one.table),), shared=True)
    rules = (*one.rules, shared)
    dialogue.say("", f"Table {one.table.dotted}: {one.reason}")
    texts = [", ".join(rule_keys(rule)) for rule in rules]
    texts[-1] = "shared = true: its rows belong to no tenant, and stay when one is purged"
    return rules[dialogue.choose("Choice", texts)]


def _number(text: str) -> str:
    return "" if text.isdecimal() and 0 < int(text) < 65536 else "is no port"


def _name(text: str) -> str:
    return complaint("name", text)


def _label(database: str) -> str:
    return database if not complaint("name", database) else "app"


def _quoted(value: str) -> str:
    plain = value.replace("-", "").replace("_", "").replace(".", "").replace("/", "").isalnum()
    return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
