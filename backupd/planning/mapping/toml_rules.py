"""A database's tenancy as lines of its configuration: what `setup` writes and `tenancy --toml` proposes. Pure."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence

from backupd.model.inventory import TableName
from backupd.model.tenancy import TableRule, Tenancy

_WIDTH = 100
"""Columns of a line, as those of this project have."""


def tenancy_line(tenancy: Tenancy) -> str:
    """Return the line that belongs into the database's section, without the rules of single tables."""
    texts = {
        "kind": tenancy.kind.value,
        "column": tenancy.column,
        "table": tenancy.table.dotted if tenancy.table else None,
        "schema_pattern": tenancy.schema_pattern,
        "database_pattern": tenancy.database_pattern,
        "null_tenant": tenancy.null_tenant if tenancy.null_tenant != "refuse" else None,
    }
    return f"tenancy = {{ {', '.join(f'{key} = {quoted(text)}' for key, text in texts.items() if text)} }}"


def tables_lines(rules: Iterable[TableRule], remarks: Iterable[str] = ()) -> list[str]:
    """Return the value of `tables`, below the tenancy, with remarks as comments; nothing where there is neither."""
    entries = [line for rule in rules for line in f"  {_entry(rule, _match(rule.tables))},".split("\n")]
    inner = [*entries, *(f"  # {remark}" for remark in remarks)]
    return ["tables = [", *inner, "]"] if inner else []


def further_lines(section: str, rules: Iterable[TableRule], remarks: Iterable[str]) -> Iterator[str]:
    """Yield entries of `tables` that can stand behind others of the database's section, with remarks as comments."""
    for rule in rules:
        yield from (f"[[{section}.tables]]", *f"match = {_match(rule.tables)}".split("\n"), *rule_keys(rule))
    yield from (f"# {remark}" for remark in remarks)


def proposal(rule: TableRule) -> str:
    """Return an entry of `tables` for a remark, which takes effect when the comment's sign is removed."""
    match = ", ".join(map(quoted, rule.tables))
    return f"{_entry(rule, f'[{match}]')},"


def rule_keys(rule: TableRule) -> list[str]:
    """Return the keys of one rule with their values, but for the tables that it matches."""
    keys = [f"column = {quoted(rule.column)}"] if rule.column else []
    keys += [f"path = [{', '.join(map(quoted, rule.path))}]"] if rule.path else []
    keys += ["shared = true"] if rule.shared else []
    return keys + ([f"null_tenant = {quoted(rule.null_tenant)}"] if rule.null_tenant else [])


def pattern_of(name: TableName | str) -> str:
    """Return the pattern that matches one table and no other; its name may hold any character."""
    return glob.escape(name if isinstance(name, str) else name.dotted)


def quoted(text: str) -> str:
    """Write text as a basic string of TOML that a terminal shows as it is."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped) + '"'


def _entry(rule: TableRule, match: str) -> str:
    return f"{{ {', '.join([f'match = {match}', *rule_keys(rule)])} }}"


def _match(patterns: Sequence[str]) -> str:
    """Write patterns as a list, several to a line."""
    lines, line = [], "["
    for name in map(quoted, patterns):
        if len(line) + len(name) > _WIDTH:
            lines.append(line.rstrip())
            line = "    "
        line += f"{name}, "
    return "\n".join([*lines, line.removesuffix(", ") + "]"])
