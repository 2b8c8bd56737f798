#!/usr/bin/env bash
# Shares that shamir-mnemonic makes today are refused by other libraries of SLIP-39, and by itself of 2022: "checksum".
#
# One would guess that a standard for words on paper is read by all that follow it, or that a reader says what it does
# not know. A bit that all of them took for part of the identifier was made to mean "extendable" in 2024, with another
# checksum; shamir-mnemonic sets it by itself since 0.3.0. Two shares of "two of three":
#
#                               as made by default                     with extendable=False
#   shamir-mnemonic 0.3.0       the secret                             the secret
#   slip39 0.1.9 (npm)          the secret                             the secret
#   shamir-mnemonic 0.2.2       "Invalid mnemonic checksum for …"      the secret
#   embit 0.8.0                 "Invalid Checksum"                     the secret
#   buidl 0.2.36                "Invalid Checksum"                     the secret
#
# Whoever gets that answer, years later, with paper that is all right, will look for the word that was written wrong.
# What made the shares, and its version, belongs onto the paper.
#
# Seen with these, embit and buidl being the latest on PyPI.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages shamir-mnemonic==0.3.0 embit==0.8.0 buidl==0.2.36
python3 -m pip install --quiet --no-compile --disable-pip-version-check --target "$work/old" shamir-mnemonic==0.2.2 \
  2>"$work/said"
(cd "$work" && npm install --silent --no-audit --no-fund slip39@0.1.9 >said)
cat >"$work/make.py" <<'PYTHON'
import sys

from shamir_mnemonic import generate_mnemonics

options = {"extendable": False} if sys.argv[1:] else {}
((one, _, three),) = generate_mnemonics(1, [(2, 3)], b"sixteen bytes...", **options)
print(one, three, sep="\n")
PYTHON
cat >"$work/read.py" <<'PYTHON'
import sys

shares = sys.stdin.read().splitlines()
try:
    if sys.argv[1] == "shamir_mnemonic":
        from shamir_mnemonic import combine_mnemonics

        found = combine_mnemonics(shares)
    else:
        if sys.argv[1] == "embit":
            from embit.slip39 import Share, ShareSet
        else:
            from buidl.shamir import Share, ShareSet
        found = ShareSet([Share.parse(share) for share in shares]).recover(b"")
except Exception as error:
    # The words of a share are quoted in one of the messages.
    found = str(error).partition(" for ")[0].encode()
print(found.decode())
PYTHON
cat >"$work/read.mjs" <<'JAVASCRIPT'
import { readFileSync } from "node:fs";
import slip39 from "slip39";

const shares = readFileSync(0, "utf8").trim().split("\n");
console.log(Buffer.from(slip39.recoverSecret(shares, "")).toString());
JAVASCRIPT
for option in "" not-extendable; do
  # shellcheck disable=SC2086
  "$python" "$work/make.py" $option >"$work/shares"
  refused="Invalid mnemonic checksum/Invalid Checksum/Invalid Checksum"
  [ -z "$option" ] || refused="sixteen bytes.../sixteen bytes.../sixteen bytes..."
  {
    "$python" "$work/read.py" shamir_mnemonic <"$work/shares"
    node "$work/read.mjs" <"$work/shares"
    PYTHONPATH=$work/old "$python" "$work/read.py" shamir_mnemonic <"$work/shares"
    "$python" "$work/read.py" embit <"$work/shares"
    "$python" "$work/read.py" buidl <"$work/shares"
  } >"$work/outcomes"
  expect "shares, ${option:-by default}" "sixteen bytes.../sixteen bytes.../$refused" \
    "$(paste -sd/ "$work/outcomes")"
done
