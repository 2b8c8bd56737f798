"""The output of `config example`, with a key of ours where the operator's own belongs."""

import hashlib
import importlib.resources

from backupd.seal.documents import Signer

PRINTED = importlib.resources.files("backupd.config").joinpath("example.toml").read_text("utf-8")
PLACEHOLDER = "PUBLIC KEY that `backupd key generate --signer FILE` printed"
SIGNING_SEED = hashlib.sha256(b"backupd tests: a signer's key").digest()
"""Fixed, so that transcripts can show its public half; no seed that somebody might type, which would be refused."""
TENANT_KEY = hashlib.sha256(b"backupd tests: a tenant key").digest()
OUR_KEY = Signer(SIGNING_SEED).public
EXAMPLE = PRINTED.replace(PLACEHOLDER, OUR_KEY)
