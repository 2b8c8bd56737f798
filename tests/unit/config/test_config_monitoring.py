"""The configuration says where metrics are served and who is notified, and holds no URL."""

from __future__ import annotations

from pathlib import Path

import pytest
from doubles.samples.example_config import EXAMPLE

from backupd.config.faults import ConfigFaultsError
from backupd.config.load import parse
from backupd.wiring.context import Context
from backupd.wiring.status import notify_findings, notify_hint

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


def test_a_target_that_cannot_be_sent_to_is_a_fault(tmp_path: Path) -> None:
    """A misspelt scheme, a file without a URL and a heartbeat that is none are found before the first alarm."""
    texts = {
        "good": "# on call\njson://u:hunter2@ops.example/told\n",
        "bad": "mailtoo://u:hunter2@ops.example\n",
        "empty": "# nobody yet\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    names = {name: f"{tmp_path}/{name}" for name in texts}
    notify = (
        f'[notify]\nurls = ["{names["good"]}", "{names["bad"]}", "{names["empty"]}"]\nheartbeat = ["{names["bad"]}"]'
    )
    text = changed("[notify]", notify) if "\n[notify]\n" in EXAMPLE else f"{EXAMPLE}\n{notify}\n"
    found = list(notify_findings(Context(parse(text, "x"), {})))
    assert [(path, message) for path, message, _ in found] == [
        (("notify", "urls"), "notify.urls[2] holds no URL"),
        (("notify", "urls"), "notify.urls[1]:1 is no URL that can be used"),
        (("notify", "heartbeat"), "notify.heartbeat[0]:1 is no URL that can be used"),
    ]
    assert "hunter2" not in repr(found)


def test_a_wrong_url_is_told_what_it_should_be() -> None:
    """A heartbeat is asked by HTTP; a message goes to whatever apprise knows."""
    assert notify_hint("notify.heartbeat: /x, line 1: no URL").endswith("http:// or https://.")
    assert "apprise" in notify_hint("notify.urls: /x, line 1: no URL")
