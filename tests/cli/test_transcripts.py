"""The command line as a person sees it: every transcript beside this file is played."""

import subprocess
from pathlib import Path

import pytest
import transcripts
from doubles.samples.example_config import SIGNING_SEED, TENANT_KEY

from backupd.seal import keyfiles, suite

BLOCKS = [block for path in sorted(Path(__file__).parent.glob("*.txt")) for block in transcripts.read(path)]


@pytest.fixture(scope="session")
def pair():
    return suite.generate()


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory):
    key = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return key.read_text()


@pytest.fixture
def folder(tmp_path, pair, ssh_key):
    """What the base configuration names, as if `key generate` had written it."""
    for name in ("ops", "escrow"):
        keyfiles.write_recipient(tmp_path / f"{name}.recipient", keyfiles.Recipient(name, pair.public))
    secrets = {"signing.key": SIGNING_SEED.hex(), "tenant.key": TENANT_KEY.hex(), "store.key": ssh_key}
    for name, text in secrets.items():
        (tmp_path / name).write_text(f"{text.strip()}\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / "store").mkdir()
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.file}: {block.reason}" for block in BLOCKS])
def test_transcript(block, folder):
    """Output, errors and exit status are those written down."""
    transcripts.play(block, folder)


def test_there_are_enough_bad_ones():
    """At least 30 transcripts show a refusal: a bad configuration or a bad command line."""
    refused = [block for block in BLOCKS if block.status != 0]

    assert len(refused) >= 30
