"""What is left to decide about a database, as lines of its configuration."""

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
