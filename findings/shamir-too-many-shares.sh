#!/usr/bin/env bash
# shamir-mnemonic: all three shares of a secret that needs two are refused; and a wrong passphrase is not.
#
# One would guess that more shares than needed are as good as enough, as the scheme allows and as people who have
# typed in all the paper they could find expect; and that a wrong passphrase is an error, as shares carry checksums.
#
#   two shares of "two of three"       the secret
#   all three of them                  MnemonicError "Wrong number of mnemonics. Expected 2 …, but 3 were provided."
#   the same share twice               MnemonicError: a share counts once
#   two shares, another passphrase     other bytes of the same length, without an error
#
# The last is intended by SLIP-39, for secrets that are themselves random: nothing in the shares says which one is
# right. So a program has to cut the list to the threshold, and to know by other means that it has the right secret.
#
# Seen with shamir-mnemonic 0.3.0.
set -euo pipefail
. "$(dirname "$0")/lib/prepare.sh"

packages shamir-mnemonic==0.3.0
cat >"$work/combine.py" <<'PYTHON'
import re

from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics

SECRET = b"sixteen bytes..."
((one, two, three),) = generate_mnemonics(1, [(2, 3)], SECRET, passphrase=b"right")


def outcome(shares, passphrase=b"right"):
    try:
        found = combine_mnemonics(shares, passphrase)
    except MnemonicError as error:
        # The words of a share are quoted in the message.
        return re.sub(r' starting with "[^"]*"', "", str(error))
    return "the secret" if found == SECRET else f"{len(found)} other bytes"


print(outcome([one, three]))
print(outcome([one, two, three]))
print(outcome([one, one]))
print(outcome([one, three], b"wrong"))
PYTHON
"$python" "$work/combine.py" >"$work/outcomes"
expect "two shares" "the secret" "$(sed -n 1p "$work/outcomes")"
expect "three shares" "Wrong number of mnemonics. Expected 2 mnemonics, but 3 were provided." \
  "$(sed -n 2p "$work/outcomes")"
expect "one share twice" "Wrong number of mnemonics. Expected 2 mnemonics, but 1 were provided." \
  "$(sed -n 3p "$work/outcomes")"
expect "a wrong passphrase" "16 other bytes" "$(sed -n 4p "$work/outcomes")"
