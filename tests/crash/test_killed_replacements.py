"""An object in a folder is put anew, and that fails, or its process dies, at every step: old or new content stands
there, whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys

import pytest
from doubles.paths import ROOT, TESTS

from backupd.errors import StoreError, StoreFullError, StoreGoneError
from backupd.store.base import Kept
from backupd.store.directory import DirectoryStore

OLD, NEW = b"old" * 10_000, b"newer" * 9_000
PIECES = [b"newer" * 1_000, Kept(3_000, 7_000), b"newest", Kept(20_000, 10_000)]
RECOMPOSED = b"newer" * 1_000 + OLD[3_000:10_000] + b"newest" + OLD[20_000:]
STEPS = (
    *("mkdir", "open", "write", "fsync", "stat", "replace", "rename", "link", "unlink", "close"),
    *("copy_file_range", "fstat", "pread"),
)
DYING = """
import io, os, signal, sys
from backupd.store.base import Kept
from backupd.store.directory import DirectoryStore
from test_killed_replacements import STEPS, WAYS, counted
from pathlib import Path
store, at = DirectoryStore(Path(sys.argv[1])), int(sys.argv[2])
def die(number, _name, effect):
    if number == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return effect()
for step in STEPS:
    setattr(os, step, counted(step, die))
WAYS[sys.argv[3]](store)
"""


def replace(store, data):
    store.replace("a/object", io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def recompose(store):
    store.recompose("a/object", PIECES, len(OLD))


WAYS = {"replace": lambda store: replace(store, NEW), "recompose": recompose}
RESULTS = {"replace": NEW, "recompose": RECOMPOSED}


def counted(name, judge, seen=[0]):  # noqa: B006 - all steps are counted together
    real = getattr(os, name)

    def step(*arguments, **keywords):
        seen[0] += 1
        return judge(seen[0], name, lambda: real(*arguments, **keywords))

    return step


@pytest.fixture
def held(tmp_path):
    """A store that holds the old content."""
    store = DirectoryStore(tmp_path / "be")
    store.put_new("a/object", io.BytesIO(OLD), len(OLD), hashlib.sha256(OLD).hexdigest())
    return store


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("code", "family"), [(28, StoreFullError), (5, StoreGoneError), (13, StoreError)])
def test_every_step_may_fail(held, monkeypatch, code, family, after, way):
    """Each failure is told, by its reason, and the next attempt succeeds."""
    close = os.close
    for at in range(1, 200):
        count, failed = [0], []

        def judge(number, name, effect, at=at, failed=failed):
            if number != at:
                return effect()
            failed.append(number)
            result = effect() if after else None
            if result is not None and name == "open":
                close(result)
            raise OSError(code, "on purpose")

        with monkeypatch.context() as patch:
            for step in set(STEPS) - {"close"}:
                patch.setattr(os, step, counted(step, judge, count))
            try:
                WAYS[way](held)
            except StoreError as error:
                assert isinstance(error, family)  # noqa: PT017 - that some steps may fail unnoticed is judged below
                done = False
            else:
                done = True
        standing = held.get("a/object")
        assert standing == RESULTS[way] if done else standing in {OLD, RESULTS[way]}
        WAYS[way](held)
        assert held.get("a/object") == RESULTS[way]
        replace(held, OLD)
        if not failed:
            break
    assert at > 15


@pytest.mark.parametrize("way", WAYS)
def test_process_may_die_at_every_step(held, way):
    """Killed before any step, what stands there is whole; what lies about is in tmp/ only."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{TESTS}:{TESTS / 'crash'}"}
    seen = set()
    for at in range(1, 200):
        command = [sys.executable, "-c", DYING, str(held.root), str(at), way]
        died = subprocess.run(command, env=environment, check=False).returncode
        assert died in {0, -signal.SIGKILL}
        seen.add(held.get("a/object"))
        assert {info.name for info in held.list("")} - {"a/object"} <= {info.name for info in held.list("tmp")}
        if died == 0:
            break
        replace(held, OLD)
    assert held.get("a/object") == RESULTS[way]
    assert seen == {OLD, RESULTS[way]}
    assert at > 15
