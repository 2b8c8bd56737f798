"""Several signatures under one document: each is looked at, none is put beside a wrong one."""

from __future__ import annotations

import pytest

from backupd.errors import DamageError, RefusedError
from backupd.seal import suite
from backupd.seal.documents import Signer, read_document, signatures_of, signed_alone, with_signature

KIND, WHERE = "attestation", "an attestation"
BODY = b'{"features":[],"format":2,"kind":"attestation"}'
FIRST, SECOND, THIRD = (Signer(bytes([number]) * 32) for number in (1, 2, 3))


def test_signatures_are_added_and_each_is_looked_at() -> None:
    """The issuer's stays first, whoever signs then and in whichever order; who has signed signs no more."""
    issued = FIRST.sign(BODY, KIND)
    both = [
        with_signature(with_signature(issued, one, KIND, WHERE), other, KIND, WHERE)
        for one, other in ((SECOND, THIRD), (THIRD, SECOND))
    ]
    assert both[0] == both[1]
    assert with_signature(both[0], SECOND, KIND, WHERE) == both[0]
    found = signatures_of(both[0], KIND, WHERE)
    assert (found[0].key, {one.key for one in found}) == (FIRST.public, {FIRST.public, SECOND.public, THIRD.public})
    assert all(one.good for one in found)
    assert found[0].fingerprint == suite.signer_fingerprint(FIRST.public)


def test_nobody_signs_beside_a_wrong_signature() -> None:
    """One of another kind of document stands under this one."""
    wrong = BODY + b"\n" + FIRST.sign(BODY, "report").split(b"\n", 1)[1]
    assert [one.good for one in signatures_of(wrong, KIND, WHERE)] == [False]
    with pytest.raises(RefusedError, match="a signature of 'an attestation' is wrong"):
        with_signature(wrong, SECOND, KIND, WHERE)


def test_a_document_is_as_one_of_its_signers_issued_it() -> None:
    """Without the others; a signer who did not sign has issued nothing."""
    issued = FIRST.sign(BODY, KIND)
    countersigned = with_signature(issued, SECOND, KIND, WHERE)
    assert signed_alone(countersigned, FIRST.public, KIND, WHERE) == issued
    assert read_document(signed_alone(countersigned, SECOND.public, KIND, WHERE), KIND, {SECOND.public}, WHERE) == BODY
    with pytest.raises(DamageError, match="an attestation"):
        signed_alone(countersigned, THIRD.public, KIND, WHERE)
