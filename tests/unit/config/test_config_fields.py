"""Durations, sizes and bandwidths."""

from datetime import timedelta

import pytest

from backupd.config.fields import parse_bandwidth, parse_duration, parse_size, spell_duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("28d", timedelta(days=28)),
        ("1.5h", timedelta(minutes=90)),
        ("30 s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("2w", timedelta(days=14)),
        ("500ms", timedelta(milliseconds=500)),
    ],
)
def test_durations(text, expected):
    """A duration is a number and a unit; m is minutes."""
    assert expected == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 kib", 1536), ("65536B", 65536), ("3TB", 3 * 10**12)],
)
def test_sizes(text, expected):
    """Decimal and binary units mean what they say."""
    assert expected == parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("20MB/s", 20_000_000), ("160Mbit/s", 20_000_000), ("1MiB/s", 1 << 20), ("unlimited", 0), ("8kbit/s", 1000)],
)
def test_bandwidths(text, expected):
    """A bandwidth is bytes or bits per second; 0 stands for no limit and can only be asked for by name."""
    assert expected == parse_bandwidth(text)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_duration, "28"),
        (parse_duration, "d"),
        (parse_duration, "28 fortnights"),
        (parse_duration, "-1d"),
        (parse_duration, "1d 2h"),
        (parse_size, "2"),
        (parse_size, "2Gbit"),
        (parse_size, "1e9B"),
        (parse_size, ""),
        (parse_bandwidth, "20MB"),
        (parse_bandwidth, "20/s"),
        (parse_bandwidth, "0B/s"),
        (parse_bandwidth, "20MB/min"),
        (parse_bandwidth, "20parsec/s"),
    ],
)
def test_what_is_no_quantity_is_refused_with_an_example(parse, text):
    """The message shows how to write it, and not what was written."""
    with pytest.raises(ValueError, match=r"as in \d+|unlimited") as caught:
        parse(text)

    assert not text or f'"{text}"' not in str(caught.value)


@pytest.mark.parametrize("text", ["28d", "36h", "90m", "30s", "1.5s", "0.25s", "0s"])
def test_a_spelt_duration_reads_as_itself(text):
    """Durations are shown as they can be written."""
    assert spell_duration(parse_duration(text)) == text
