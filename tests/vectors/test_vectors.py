"""Every reader reads every vector, and finds in each what the vector says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from case import CASES, Case, read_cases
from readers import READERS, FailedError

ALL = read_cases()


def test_the_corpus_is_not_empty() -> None:
    """An empty folder of vectors is a failure, not a success."""
    assert len(ALL) > 100
    assert len(ALL) == len(list(CASES.iterdir()))


@pytest.mark.parametrize("program", READERS)
@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_vector(case: Case, program: str, tmp_path: Path) -> None:
    """A sound vector reads as the content it names, a broken one fails with the error it names."""
    read = READERS[program](tmp_path)
    if case.fields["expect"] == "ok":
        assert hashlib.sha256(read(case)).hexdigest() == case.fields["sha256"]
        return
    with pytest.raises(FailedError) as failure:
        read(case)
    assert failure.value.family == case.fields["expect"]
    assert case.fields["message"] in failure.value.message
