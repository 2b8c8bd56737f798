"""What is left to decide about a database, as lines of its configuration."""

import tomllib

from backupd.model.tenancy import Gap
from backupd.operations.tenancy.block import toml_block
from backupd.operations.tenancy.types import TenancyLine, TenancyReport, TenancyWay


def test_of_two_tenants_in_one_row_none_is_proposed_even_while_there_are_no_rows():
    """Issuer or acceptor is for a person to say; ways through other tables are proposed where nothing disagrees."""
    two = (TenancyWay("issuer", (), "", 0), TenancyWay("acceptor", (), "", 0))
    gift = TenancyLine("public.gift", "2 keys", None, None, 0, mapped=False, gap=Gap.SEVERAL, ways=two, counted=0)
    items = (TenancyWay(None, ("item",), "", 0), TenancyWay(None, ("quota",), "", 0))
    pair = TenancyLine("public.pair", "2 keys", None, None, 0, mapped=False, gap=Gap.SEVERAL, ways=items, counted=0)
    block = toml_block("be", TenancyReport("app", (gift, pair)))
    assert [line for line in block if not line.strip().startswith("#")] == [
        "tables = [", '  { match = ["public.pair"], path = ["item"] },', "]",
    ]  # fmt: skip


def test_long_entries_are_lines_of_their_own_and_may_be_pasted():
    """What is printed line by line is TOML, however many tables an entry is for, and however they are called."""
    names = [f"public.a_rather_long_name_of_a_table_{number}" for number in range(9)]
    odd = f"public.{'x' * 60}\nend"
    lines = [TenancyLine(name, "no key", None, None, 0, mapped=False, gap=Gap.NO_WAY) for name in [*names, odd]]
    ways = (TenancyWay("issuer", (), "may be null", 0), TenancyWay("acceptor", (), "", 0))
    lines.append(TenancyLine(odd + "2", "2 keys", None, None, 0, mapped=False, gap=Gap.DOUBTFUL, ways=ways, counted=0))
    for ruled in (False, True):
        block = toml_block("be", TenancyReport("app", tuple(lines), ruled=ruled))
        assert [line for line in block if "\n" in line] == []
        read = tomllib.loads("\n".join(block))
        (entry,) = read["regions"]["be"]["databases"]["app"]["tables"] if ruled else read["tables"]
        assert entry == {"match": sorted([*names, odd]), "shared": True}


def test_rows_without_a_tenant_are_left_to_decide():
    """A backup stops at them, so the block says so, with what a person may choose; nothing takes effect by itself."""
    stray = TenancyLine(
        "public.ticket", "column customer", "uploaded", "standard", 9, counted=9, without=2, refuses=True
    )
    block = toml_block("be", TenancyReport("app", (stray,)))
    assert "  # public.ticket: without a tenant, so that a backup stops: 2 of 9 rows" in block
    assert any('null_tenant = "shared"' in line for line in block)
    assert [line for line in block if not line.strip().startswith("#")] == ["tables = [", "]"]
