#!/usr/bin/env bash
# pydantic reads 20261201123000, the usual label of a backup of 1 December 2026, as a day in 2612, and 20261201 as 1970.
#
# One would guess ISO 8601's basic form, as datetime.fromisoformat has it, or an error, which 20261201T123000 is. A text
# of digits alone is taken for seconds since 1970, and above 20,000,000,000 for milliseconds:
#
#                       pydantic, datetime       fromisoformat          msgspec
#   20261201123000      2612-01-20 15:25:23      error                  error
#   202612011230        1976-06-03 01:06:51      error                  error
#   20261201            1970-08-23 12:06:41      2026-12-01 00:00:00    error
#   2026                1970-01-01 00:33:46      error                  error
#   20261201T123000     error                    2026-12-01 12:30:00    error
#   2026-12-01          2026-12-01 00:00:00      the same               error
#
# A rule that keeps what is younger than 30 days keeps the first for six centuries, and removes the second at once.
# As a pydantic date, all of digits alone are refused.
#
# Seen with pydantic 2.12.5, msgspec 0.20.0, Python 3.11.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages pydantic==2.12.5 msgspec==0.20.0
cat >"$work/read.py" <<'PYTHON'
import json
from datetime import date, datetime

import msgspec
import pydantic

ways = [
    pydantic.TypeAdapter(datetime).validate_python,
    datetime.fromisoformat,
    lambda text: msgspec.json.decode(json.dumps(text), type=datetime),
    pydantic.TypeAdapter(date).validate_python,
]
for text in ("20261201123000", "202612011230", "20261201", "2026", "20261201T123000", "2026-12-01"):
    answers = []
    for way in ways:
        try:
            answers.append(f"{way(text):%Y-%m-%d %H:%M:%S}")
        except (ValueError, msgspec.ValidationError):
            answers.append("error")
    print(", ".join(answers))
PYTHON
"$python" "$work/read.py" >"$work/seen"
expect "20261201123000" "2612-01-20 15:25:23, error, error, error" "$(sed -n 1p "$work/seen")"
expect "202612011230" "1976-06-03 01:06:51, error, error, error" "$(sed -n 2p "$work/seen")"
expect "20261201" "1970-08-23 12:06:41, 2026-12-01 00:00:00, error, error" "$(sed -n 3p "$work/seen")"
expect "2026" "1970-01-01 00:33:46, error, error, error" "$(sed -n 4p "$work/seen")"
expect "20261201T123000" "error, 2026-12-01 12:30:00, error, error" "$(sed -n 5p "$work/seen")"
expect "2026-12-01" "2026-12-01 00:00:00, 2026-12-01 00:00:00, error, 2026-12-01 00:00:00" \
  "$(sed -n 6p "$work/seen")"
