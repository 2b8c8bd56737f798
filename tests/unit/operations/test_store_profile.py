"""A wanted change of a store is accepted: what is true now is signed, with the reason, and nothing else changes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace

import msgspec
import pytest
from fix_clock import ShiftedClock
from fix_regions import REGION, make_region

from backupd.clock import SystemClock
from backupd.errors import DamageError, RefusedError, StoreError
from backupd.model.documents import encode_body
from backupd.operations.init import Founder, NamedStore, initialise
from backupd.operations.status.capabilities import changes
from backupd.operations.store_profile import AcceptRequest, accept, accepted_document, put_accepted
from backupd.repository import help_files
from backupd.repository.repository import Repository, unnamed_signers
from backupd.seal.documents import Signer
from backupd.store.probe import probe
from backupd.store.sftp.store import SftpStore


@pytest.fixture
def region(tmp_path):
    return make_region(tmp_path)


def request(region, **fields):
    """What the founder would accept, unless fields say otherwise."""
    wanted = AcceptRequest(
        signer=region.node.signer,
        signers=frozenset({region.node.signer.public}),
        keepers=frozenset(),
        reason="OPS-7",
        clock=ShiftedClock(),
        random=os.urandom,
    )
    return replace(wanted, **fields)


def read(region, *trusted):
    return Repository(region.store, trusted or [region.node.signer.public]).info()


def founded_otherwise(region):
    """Have the document say that the store could do what it cannot."""
    repository = Repository(region.store, [region.node.signer.public])
    info = msgspec.structs.replace(repository.info(), profile={**repository.info().profile, "append_only": True})
    region.store.remove("repository.json")
    repository.put_info(info, region.node.signer)


def test_what_is_true_now_is_signed_with_its_reason(region):
    """The alarm has nothing to compare any more, and the document says who accepted what, when and why."""
    founded_otherwise(region)
    before = read(region)
    assert [one.what for one in changes(before.profile, region.store, None)] == []
    accepted = accept(Repository(region.store, [region.node.signer.public]), region.store, request(region))
    assert [(one.what, one.before, one.now) for one in accepted.changes] == [("append_only", "yes", "no")]
    after = read(region)
    assert after.profile == msgspec.to_builtins(probe(region.store))
    assert (after.repository, after.region, after.created) == (before.repository, before.region, before.created)
    (entry,) = after.extra["accepted"]
    assert (entry["reason"], entry["signer"]) == ("OPS-7", region.node.signer.public)
    assert entry["changes"] == {"append_only": ["yes", "no"]}


def test_signers_and_keepers_of_today_are_named(region):
    """Who joined is believed by readers who have only the store; who is trusted no longer is not."""
    other, keeper = Signer(os.urandom(32)), Signer(os.urandom(32)).public
    both = frozenset({region.node.signer.public, other.public})
    assert unnamed_signers(read(region), both) == (other.public,)
    accepted = accept(
        Repository(region.store, both), region.store, request(region, signers=both, keepers=frozenset({keeper}))
    )
    assert (set(accepted.named), accepted.dropped) == ({other.public, keeper}, ())
    after = read(region)
    assert (set(after.signers), after.keepers) == (both, [keeper])
    assert unnamed_signers(after, both) == ()
    gone = accept(
        Repository(region.store, both),
        region.store,
        request(region, signer=other, signers=frozenset({other.public}), keepers=frozenset({keeper})),
    )
    assert gone.dropped == (region.node.signer.public,)
    assert read(region, other.public).signers == [other.public]


def test_nothing_is_written_where_nothing_changed(region):
    """No second signature, no second reason."""
    before = region.store.get("repository.json")
    accepted = accept(Repository(region.store, [region.node.signer.public]), region.store, request(region))
    assert (accepted.changes, accepted.named, accepted.dropped, accepted.changed) == ((), (), (), False)
    assert region.store.get("repository.json") == before


@pytest.mark.parametrize("left", [True, False], ids=["of an older version", "missing"])
def test_the_files_of_a_newer_version_come_with_their_hashes(region, left):
    """A mended `recover` reaches the stores that are there, and `verify` compares it with the newer hash."""
    repository = Repository(region.store, [region.node.signer.public])
    old = dict.fromkeys(help_files.own_files(), b"of an older version")
    info = msgspec.structs.replace(
        repository.info(), help={name: hashlib.sha256(data).hexdigest() for name, data in old.items()}
    )
    for name in ("repository.json", *old):
        region.store.remove(name)
    for name, data in old.items() if left else ():
        repository.put_document(name, data)
    repository.put_info(info, region.node.signer)
    repository = Repository(region.store, [region.node.signer.public])
    accepted = accept(repository, region.store, request(region))
    assert [one.what for one in accepted.changes] == ["RECOVER.md", "recover"]
    assert {name: region.store.get(name) for name in old} == help_files.own_files()
    assert list(help_files.altered(region.store, read(region).help)) == []


def test_a_document_of_another_version_is_not_put(region):
    """The files it names are not here: nobody could compare what lies on the store."""
    repository = Repository(region.store, [region.node.signer.public])
    info = msgspec.structs.replace(repository.info(), help={"recover": "ab" * 32})
    with pytest.raises(RefusedError, match="names the hash of another `recover`"):
        put_accepted(repository, region.node.signer.sign(encode_body(info), "repository"))


def test_a_document_signed_elsewhere_is_put_by_who_may_replace(region):
    """The machine with the signing key need not be the one whose account may replace."""
    founded_otherwise(region)
    repository = Repository(region.store, [region.node.signer.public])
    document, accepted = accepted_document(repository, region.store, request(region))
    assert accepted.changed
    assert read(region).profile["append_only"] is True
    put_accepted(Repository(region.store, [region.node.signer.public]), document)
    assert read(region).profile["append_only"] is False


def test_a_document_of_nobody_we_trust_is_not_put(region):
    """Nor one of another repository; what stands there stays."""
    before = region.store.get("repository.json")
    repository = Repository(region.store, [region.node.signer.public])
    with pytest.raises(DamageError):
        put_accepted(repository, Signer(os.urandom(32)).sign(encode_body(repository.info()), "repository"))
    foreign = msgspec.structs.replace(repository.info(), repository="ab" * 16)
    with pytest.raises(RefusedError, match="another repository"):
        put_accepted(repository, region.node.signer.sign(encode_body(foreign), "repository"))
    assert region.store.get("repository.json") == before


def test_an_older_document_is_not_put_over_a_newer_one(region):
    """Each acceptance holds those before it: one that lacks some was overtaken."""
    founded_otherwise(region)
    repository = Repository(region.store, [region.node.signer.public])
    overtaken, _ = accepted_document(repository, region.store, request(region, reason="OPS-8"))
    accept(repository, region.store, request(region))
    with pytest.raises(RefusedError, match="was accepted"):
        put_accepted(Repository(region.store, [region.node.signer.public]), overtaken)


def test_an_account_that_may_not_replace_is_told_what_to_do(roles):
    """On an append-only store the writer's account cannot; nothing is changed, and the keeper's can."""
    signer = Signer(os.urandom(32))
    writer, keeper = (SftpStore(target, SystemClock()) for target in (roles.writer, roles.keeper))
    initialise(REGION, [NamedStore("zurich", keeper)], Founder(signer, (), SystemClock(), os.urandom))
    wanted = AcceptRequest(signer, frozenset({signer.public}), frozenset(), "OPS-7", SystemClock(), os.urandom)
    with pytest.raises(StoreError) as caught:
        accept(Repository(writer, [signer.public]), writer, wanted)
    assert "--write" in caught.value.hint
    accepted = accept(Repository(keeper, [signer.public]), writer, wanted)
    assert [(one.what, one.now) for one in accepted.changes] == [("append_only", "yes")]
    assert Repository(writer, [signer.public]).info().profile["append_only"] is True
    for store in (writer, keeper):
        store.close()
