"""The configuration says where metrics are served and who is notified, and holds no URL."""

from __future__ import annotations

import pytest
from doubles.samples.example_config import EXAMPLE

from backupd.config.faults import ConfigFaultsError
from backupd.config.load import parse

LISTEN = 'listen = "127.0.0.1:9840"'
URLS = '# urls = ["credential:notify.urls"]'


def changed(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new)


def test_a_port_alone_is_loopbacks() -> None:
    """Nobody opens metrics to a network by leaving something out."""
    for written, meant in (("9840", "127.0.0.1:9840"), ("10.0.0.1:80", "10.0.0.1:80"), ("[::1]:9840", "[::1]:9840")):
        assert parse(changed(LISTEN, f'listen = "{written}"'), "x").metrics.listen == meant
    assert parse(changed(LISTEN, ""), "x").metrics.listen is None


@pytest.mark.parametrize("written", ["", "0", "65536", "host", "host:", ":9840", "::1:9840", "a b:1"])
def test_no_address_is_refused(written: str) -> None:
    """By its place, with an example."""
    with pytest.raises(ConfigFaultsError) as caught:
        parse(changed(LISTEN, f'listen = "{written}"'), "x")
    (fault,) = caught.value.faults
    assert (fault.key, "127.0.0.1:9840" in fault.message) == ("metrics.listen", True)


def test_a_url_in_the_file_is_refused() -> None:
    """It holds a password; the refusal does not repeat it."""
    with pytest.raises(ConfigFaultsError) as caught:
        parse(changed(URLS, 'urls = ["mailto://someone:hunter2@mail.example"]'), "x")
    assert {fault.key for fault in caught.value.faults} == {"notify.urls[0]"}
    assert "hunter2" not in str(caught.value) + repr(caught.value.faults)
