"""The longest tests begin first: one that began last would keep a process busy long after the others have ended."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those marked so in front of the others, which stay in any order."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)
