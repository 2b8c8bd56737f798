"""Pages as a browser shows and prints them: nothing is asked for, nothing sticks out, and A4 holds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doubles.samples.attestation_pages import page_of
from doubles.samples.attestation_pages import sample as attestation
from doubles.samples.drill_pages import ERRED, FAILED, drills, hostile, part, period
from doubles.samples.region_facts import region
from doubles.samples.reports import sample
from doubles.samples.status_pages import bad
from doubles.samples.status_pages import page_of as status_page
from doubles.servers import chromium

from backupd.pages import render_report

LONG = "w" * 63


def pages() -> dict[str, str]:
    """Each kind, with names as long as they may be."""
    named = hostile(LONG)
    return {
        "attestation": page_of(attestation()),
        "report": render_report(named, "ab" * 32, [sample(number) for number in range(12)]),
        "error": render_report(ERRED, "ab" * 32),
        "period": period(
            part(
                found=drills(sample(0), FAILED, ERRED, named, missed=(1, 2), link=f"be/{LONG}.html"), faults=[LONG * 3]
            ),
            part(LONG, drills(*(sample(number) for number in range(500)))),
            part("empty", not_checked=[LONG]),
        ),
        "status": status_page(region(), bad(LONG, said=LONG * 3), troubles=(LONG,)),
    }


@pytest.mark.parametrize("kind", ["attestation", "report", "error", "period", "status"])
@pytest.mark.parametrize("width", [360, 1000])
def test_a_page_is_no_wider_than_its_window(kind: str, width: int, tmp_path: Path) -> None:
    """Nobody scrolls sideways, on a phone or on a screen, and no letter is cut off at the edge."""
    found = chromium.widths(pages()[kind], width, tmp_path)
    assert found["scroll"] <= found["client"] <= width
    assert found["right"] <= width


def test_a_page_that_is_too_wide_is_noticed(tmp_path: Path) -> None:
    """The measure above measures."""
    found = chromium.widths(f"<!DOCTYPE html><body><pre>{'w' * 200}</pre>", 360, tmp_path)
    assert found["scroll"] > 360


def test_no_request_leaves_a_page(tmp_path: Path) -> None:
    """Not even where a name says so; a page that does ask is heard."""
    with chromium.listening() as (address, asked):
        bait = f'"><img src={address}/x>'[:63]
        for place, page in enumerate(
            (
                render_report(hostile(bait), "ab" * 32),
                period(part(bait, drills(hostile(bait), link=f"{address}/link"))),
                status_page(bad(bait, said=bait)),
            )
        ):
            path = tmp_path / f"{place}.html"
            path.write_text(page)
            assert "</svg>" in chromium.run("--dump-dom", path.as_uri())
        assert asked == []
        path.write_text(f"<!DOCTYPE html><img src={address}/control>")
        chromium.run("--dump-dom", path.as_uri())
        assert asked == ["/control"]


@pytest.mark.parametrize(("kind", "most"), [("report", 5), ("error", 4), ("attestation", 4), ("status", 5)])
def test_a_page_prints_on_a4(kind: str, most: int, tmp_path: Path) -> None:
    """Every sheet is A4, and there are not more of them than the text needs."""
    path = tmp_path / "page.html"
    path.write_text(pages()[kind])
    pdf = chromium.printed(path, tmp_path)
    boxes = re.findall(rb"/MediaBox \[0 0 ([0-9.]+) ([0-9.]+)\]", pdf)
    assert 1 <= len(boxes) <= most
    assert {(round(float(width)), round(float(height))) for width, height in boxes} == {(595, 842)}
