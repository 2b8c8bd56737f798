"""Keys that anybody can sign with, or read with, are refused wherever somebody says whom to trust."""

import os
import re
from pathlib import Path

import msgspec
import pytest
from doubles.samples.example_config import EXAMPLE, OUR_KEY, PLACEHOLDER, PRINTED
from doubles.samples.reports import sample
from doubles.stores.small_repository import SmallRepository

from backupd.cli.options import trusted_keys
from backupd.config.faults import ConfigFaultsError
from backupd.config.load import parse
from backupd.errors import ConfigError, DamageError, RefusedError, UsageError
from backupd.model import known_keys
from backupd.model.documents import encode_body
from backupd.model.report import KIND, encode_report
from backupd.repository.reports import read_report
from backupd.repository.repository import Repository
from backupd.seal import keyfiles, suite
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import read_signer
from backupd.seal.tags import read_tenant_key
from backupd.store.directory import DirectoryStore

ZERO = Signer(bytes(32))
SEEDS = {
    "32 zero bytes": bytes(32),
    "32 bytes of 01": b"\x01" * 32,
    "32 bytes of ff": b"\xff" * 32,
    "the number 1": (1).to_bytes(32, "big"),
    "the number 2, little-endian": (2).to_bytes(32, "little"),
    "bytes that count up": bytes(range(32)),
    "the first of RFC 8032": bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
}
seeds = pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
SMALL_ORDER = [point.hex() for point in known_keys.small_order_points()]


def forged(public: str) -> int:
    """Under how many of 64 messages a constant signature passes, made without any secret."""
    constants = [bytes.fromhex(point) + bytes(32) for point in SMALL_ORDER]
    messages = [b"message %d" % number for number in range(64)]
    key = bytes.fromhex(public)
    return sum(any(suite.signed_by(key, constant, message) for constant in constants) for message in messages)


def test_the_list_is_what_the_seeds_give() -> None:
    """Derived anew: every signer and every recipient of a known seed, and every point of small order."""
    signers = {known_keys.digest(suite.signer_public(seed)) for seed in known_keys.known_seeds(32)}
    recipients = {known_keys.digest(suite.public_of(seed)) for seed in known_keys.known_seeds(96)}
    points = {known_keys.digest(bytes.fromhex(point)) for point in SMALL_ORDER}
    assert known_keys._digests() == signers | recipients | points
    assert len(set(known_keys.known_seeds(32))) == 256 + 2 * 32 + 4 + 5
    assert len(set(known_keys.known_seeds(96))) == 256 + 2 * 32 + 4


def test_a_key_of_ones_own_is_not_known() -> None:
    """Neither what the operating system's randomness gives, nor its public half."""
    assert not any(known_keys.is_known(suite.signer_public(os.urandom(32))) for _ in range(100))
    assert not known_keys.is_known(suite.generate().public)
    assert not known_keys.is_known_seed(os.urandom(32))


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_points_of_small_order_are_forgeable_and_known(point: str) -> None:
    """Without any secret, a constant passes as the signature of many messages: such a key must not be trusted."""
    assert forged(point) >= 16
    assert forged(OUR_KEY) == 0
    assert known_keys.is_known_signer(point)


@pytest.mark.parametrize("list_", ["signers", "keepers"])
@pytest.mark.parametrize("key", [*(Signer(seed).public for seed in SEEDS.values()), "00" * 32, f"01{'00' * 31}"])
def test_the_configuration_trusts_no_known_key(list_: str, key: str) -> None:
    """Also beside one's own: what it signed would be believed."""
    text = re.sub(rf"(?m)^{list_} = .*$", f'{list_} = ["{OUR_KEY}", "{key}"]', EXAMPLE)
    with pytest.raises(ConfigFaultsError) as caught:
        parse(text, "x")
    (fault,) = caught.value.faults
    assert fault.key == f"trust.{list_}[1]"
    assert "anybody can sign with" in fault.message
    assert "backupd key generate --signer FILE" in fault.message


def test_the_example_must_be_filled_in() -> None:
    """What is printed trusts nobody's key: the one fault is the placeholder, with the command that makes a key."""
    assert PLACEHOLDER in PRINTED
    assert not re.findall(r'"[0-9a-f]{64}"', PRINTED)
    with pytest.raises(ConfigFaultsError) as caught:
        parse(PRINTED, "x")
    (fault,) = caught.value.faults
    assert fault.key == "trust.signers[0]"
    assert "put your own" in fault.message
    assert "backupd key generate --signer FILE" in fault.message


@seeds
def test_a_key_file_of_a_known_seed_is_refused(seed: bytes, tmp_path: Path) -> None:
    """A signing key and a tenant key: anybody could sign, or find tenants, likewise."""
    path = tmp_path / "key"
    path.write_text(seed.hex() + "\n")
    path.chmod(0o600)
    for read in (read_signer, read_tenant_key):
        with pytest.raises(ConfigError, match="anybody can guess") as caught:
            read(path)
        assert "backupd key generate" in caught.value.hint
        assert seed.hex() not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("seed", [bytes(96), b"\x01" * 96, bytes(range(96)), (1).to_bytes(96, "big")])
def test_recipients_and_identities_of_known_seeds_are_refused(seed: bytes, tmp_path: Path) -> None:
    """What is sealed to one is open to all."""
    pair = suite.KeyPair(seed, suite.public_of(seed))
    recipient, own = tmp_path / "recipient", tmp_path / "identity"
    keyfiles.write_recipient(recipient, keyfiles.Recipient("ops", pair.public))
    keyfiles.write_identity(own, "ops", pair, "correct horse")
    for read in (
        lambda: keyfiles.read_recipient(recipient),
        lambda: keyfiles.read_recipient(own),
        lambda: keyfiles.read_identity(own, "correct horse"),
    ):
        with pytest.raises(ConfigError, match="anybody can read with") as caught:
            read()
        assert "backupd key generate" in caught.value.hint


@seeds
def test_the_command_line_trusts_no_known_key(seed: bytes) -> None:
    """`--keeper KEY` of a known seed."""
    with pytest.raises(UsageError, match="anybody can sign with"):
        trusted_keys([OUR_KEY, Signer(seed).public])


def test_a_repository_that_names_a_known_key_is_believed_without_it(tmp_path: Path) -> None:
    """Where nobody is trusted by configuration: the sample key beside one's own makes no document believable."""
    small = SmallRepository(DirectoryStore(tmp_path))
    both = sorted([small.signer.public, ZERO.public])
    info = msgspec.structs.replace(small.info, signers=both, keepers=[ZERO.public])
    path = next(tmp_path.rglob("repository.json"))
    path.write_bytes(small.signer.sign(encode_body(info), "repository"))
    assert Repository(small.store, None).signers == {small.signer.public}
    assert Repository(small.store, None).keepers == {small.signer.public}
    path.write_bytes(ZERO.sign(encode_body(info), "repository"))
    with pytest.raises(DamageError, match="not signed by a trusted signer"):
        Repository(small.store, None).info()


def test_a_repository_of_known_keys_alone_is_refused(tmp_path: Path) -> None:
    """Anybody could have made it."""
    small = SmallRepository(DirectoryStore(tmp_path))
    info = msgspec.structs.replace(small.info, signers=[ZERO.public])
    next(tmp_path.rglob("repository.json")).write_bytes(ZERO.sign(encode_body(info), "repository"))
    with pytest.raises(RefusedError, match="anybody can sign with"):
        Repository(small.store, None).info()


def test_a_report_by_a_known_key_is_not_believed() -> None:
    """Where whoever signed is believed, nobody's key is not."""
    body = encode_report(msgspec.structs.replace(sample(0), performer=ZERO.public))
    with pytest.raises(DamageError, match="anybody can sign with"):
        read_report(ZERO.sign(body, KIND), None)
