"""The audit of libraries: what is known of them is told, and that nothing could be asked is never good news."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from doubles.servers.http_listener import HeardRequests, http_listener

from scripts.lib import audit, locked

PACKAGES = audit.versions(locked.read_lock((locked.ROOT / "requirements.lock").read_text()))


@pytest.fixture
def service() -> Iterator[HeardRequests]:
    with http_listener() as heard:
        yield heard


def asked(service: HeardRequests) -> int:
    return audit.main([f"http://127.0.0.1:{service.port}/v1"])


def results(**found: list[str]) -> bytes:
    told = [{"vulns": [{"id": one} for one in found[name]]} if name in found else {} for name in PACKAGES]
    return json.dumps({"results": told}).encode()


def test_every_locked_package_is_asked_about(service: HeardRequests, capsys: pytest.CaptureFixture[str]) -> None:
    """With its version; where nothing is known, that is said of so many."""
    service.answer = results()
    assert asked(service) == 0
    ((_, body),) = service.requests
    queries = {one["package"]["name"]: one["version"] for one in json.loads(body)["queries"]}
    assert queries == PACKAGES
    assert {"cryptography", "paramiko", "psycopg-binary"} <= queries.keys()
    assert f"{len(PACKAGES)} packages, 0 with advisories" in capsys.readouterr().out


def test_an_advisory_is_named_with_its_package(service: HeardRequests, capsys: pytest.CaptureFixture[str]) -> None:
    """And the exit status is that of something wrong."""
    service.answer = results(paramiko=["GHSA-1", "PYSEC-2"])
    assert asked(service) == 1
    assert f"paramiko {PACKAGES['paramiko']}: GHSA-1, PYSEC-2" in capsys.readouterr().out


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"results": []}', b'{"results": 7}'])
def test_no_answer_is_said_to_be_none(
    service: HeardRequests, capsys: pytest.CaptureFixture[str], answer: bytes
) -> None:
    """Whatever stands in the service's place, or nothing at all."""
    service.answer = answer
    assert asked(service) == 3
    assert "NOT VERIFIED" in capsys.readouterr().out


def test_a_service_that_is_away_is_no_good_news(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is one that refuses."""
    with http_listener() as heard:
        heard.status = 503
        assert asked(heard) == 3
    assert asked(heard) == 3
    assert capsys.readouterr().out.count("NOT VERIFIED") == 2
