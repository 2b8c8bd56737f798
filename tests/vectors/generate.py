"""Makes the vectors that are missing: `python tests/vectors/generate.py`. One failure each."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from case import CASES, Case
from crafting import flip, text
from documents import documents, keyrings
from expecting import OK, bent, case
from manifests import manifests
from packs import packs
from records import records
from sections import sections

from backupd.seal import suite
from backupd.seal.keyfiles import write_identity


def keys() -> Iterator[Case]:
    pair = suite.generate()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "identity"
        write_identity(path, "ops", pair, "Grüße, Pass!")
        data = path.read_bytes()
    words = {"passphrase": "Grüße, Pass!"}
    no_key = {"expect": "KeyRefusedError", "message": "the passphrase does not open the identity"}
    no_file = {"expect": "ConfigError", "message": "is not a"}
    yield case("identity-good", "nothing", "identity", OK, words, data, pair.secret)
    yield case("identity-passphrase", "another passphrase", "identity", no_key, {"passphrase": "x"}, data, b"")
    bad = bent(data.decode(), "sealed").encode()
    yield case("identity-flipped", "a bit of the sealed secret is flipped", "identity", no_key, words, bad, b"")
    greedy = data.replace(b'"n":65536', b'"n":1073741824')
    yield case("identity-greedy", "scrypt is to take 1 TiB", "identity", no_file, words, greedy, b"")
    yield case(
        "identity-recipient",
        "calls itself a recipient",
        "identity",
        no_file,
        words,
        data.replace(b'"identity"', b'"recipient"'),
        b"",
    )
    yield case(
        "identity-version",
        "version 2",
        "identity",
        {"expect": "ConfigError", "message": "version"},
        words,
        data.replace(b'"version":1', b'"version":2'),
        b"",
    )
    info, message = b"backupd/1 known answer", b"a message for another implementation to find"
    fields = {"secret": text(pair.secret), "public": text(pair.public), "info": info.hex()}
    sealed = suite.seal(pair.public, info, message)
    yield case("hpke-good", "nothing", "hpke", OK, fields, sealed, message)
    wrong = {"expect": "DamageError", "message": ""}
    yield case("hpke-info", "another info", "hpke", wrong, {**fields, "info": b"other".hex()}, sealed, b"")
    yield case("hpke-flipped", "a bit is flipped", "hpke", wrong, fields, flip(1100)(sealed), b"")
    yield case("hpke-short", "too short to hold anything", "hpke", wrong, fields, sealed[:1000], b"")


def main() -> None:
    CASES.mkdir(exist_ok=True)
    made = [*sections(), *manifests(), *packs(), *keyrings(), *records(), *documents(), *keys()]
    missing = [one for one in made if not (CASES / f"{one.name}.txt").exists()]
    for one in missing:
        one.write()
    sys.stdout.write(f"{len(missing)} of {len(made)} cases made\n")


if __name__ == "__main__":
    main()
