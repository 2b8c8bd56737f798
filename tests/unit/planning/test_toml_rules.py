"""A tenancy as lines of the configuration: what is read back is what was meant."""

from __future__ import annotations

import tomllib

from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.planning.mapping.toml_rules import further_lines, proposal, tables_lines, tenancy_line

SECTION = "regions.be.databases.app"
RULES = (
    TableRule(("public.a",), path=("x", "y")),
    TableRule(("public.b", "public.c" * 20, "public.d"), shared=True),
    TableRule(('odd "name"\n',), column="owner", null_tenant="shared"),
)
READ = [
    {"match": ["public.a"], "path": ["x", "y"]},
    {"match": ["public.b", "public.c" * 20, "public.d"], "shared": True},
    {"match": ['odd "name"\n'], "column": "owner", "null_tenant": "shared"},
]


def test_a_tenancy_is_read_back():
    """With its rules, in their order, in the database's section; remarks change nothing."""
    tenancy = Tenancy(TenancyKind.COLUMN, column='tenant "id"', null_tenant="shared")
    text = "\n".join((f"[{SECTION}]", tenancy_line(tenancy), *tables_lines(RULES, ["a remark"])))
    assert tomllib.loads(text)["regions"]["be"]["databases"]["app"] == {
        "tenancy": {"kind": "column", "column": 'tenant "id"', "null_tenant": "shared"},
        "tables": READ,
    }


def test_further_rules_stand_behind_others():
    """As entries of their own, since `tables` can be given once only."""
    first = f"[[{SECTION}.tables]]\nmatch = ['public.z']\nshared = true"
    text = "\n".join((first, *further_lines(SECTION, RULES, ["a remark"])))
    assert tomllib.loads(text)["regions"]["be"]["databases"]["app"]["tables"][1:] == READ


def test_without_rules_and_remarks_there_is_no_line():
    """An empty list would be a key that says nothing."""
    assert tables_lines(()) == []


def test_a_proposal_is_an_entry_of_the_list_of_tables():
    """Once its comment's sign is removed, between the entries that are there."""
    proposed = [proposal(rule) for rule in RULES]
    text = "\n".join((f"[{SECTION}]", "tables = [", *proposed, "]"))
    assert tomllib.loads(text)["regions"]["be"]["databases"]["app"]["tables"] == READ
