"""What is known of an application: where it is from, how it makes its tables, and what a person decides about them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
CHECKOUT = Path(__file__).resolve().parents[3]
INSTALLED = CHECKOUT / ".venv" / "corpus"
"""Where applications stay installed from one run to the next."""


class CorpusError(Exception):
    """An application could not be had, or did not make its tables; the message says why."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One file of `recipes`."""

    name: str
    what: str
    setup: str
    """A shell script: makes tables, with PG* in its environment and the application's programs first in PATH."""
    tenancy: str
    """The first line in the section of the database; what `backupd tenancy --toml` then proposes is put behind it."""
    pip: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    apt_source: str = ""
    """A Debian source package, which is unpacked."""
    decided: tuple[str, ...] = ()
    """Entries of `tables` that a person adds."""
    later: tuple[str, ...] = ()
    """The same for tables that were waiting for the others."""
    shared: tuple[str, ...] = ()
    """Patterns of tables that are nobody's: mapped to tenants they are mapped wrongly."""
    tenants: str = ""
    """The tenants' table; the generator makes tenants in it. Empty where rows are not made, or are made by `setup`."""
    column: str = ""
    """A column that names tenants in tables without a foreign key on it."""
    rows: bool = True
    """Whether the generator makes rows."""

    @property
    def home(self) -> Path:
        return INSTALLED / self.name


def known() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_of(name: str) -> Recipe:
    return load(RECIPES / f"{name}.toml")


def load(path: Path) -> Recipe:
    """Read a recipe; an unknown key is a mistake in it."""
    text = tomllib.loads(path.read_text())
    strangers = text.keys() - {field.name for field in fields(Recipe)}
    if strangers:
        raise CorpusError(f"{path.name}: unknown: {', '.join(sorted(strangers))}")
    return Recipe(path.stem, **{key: tuple(value) if isinstance(value, list) else value for key, value in text.items()})


def install(recipe: Recipe) -> None:
    """Have the application's packages in a folder of its own; nothing when they are there.

    Raises CorpusError.
    """
    wanted = hashlib.sha256(repr((recipe.pip, recipe.npm, recipe.apt_source)).encode()).hexdigest()
    stamp = recipe.home / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(recipe.home, ignore_errors=True)
    recipe.home.mkdir(parents=True)
    if recipe.pip:
        _run(recipe, [sys.executable, "-m", "venv", str(recipe.home)])
        options = ["--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--prefer-binary"]
        _run(recipe, [str(recipe.home / "bin" / "pip"), "install", *options, *recipe.pip])
    if recipe.npm:
        (recipe.home / "package.json").write_text('{"private": true}\n')
        options = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        _run(recipe, ["npm", "install", *options, *recipe.npm])
    if recipe.apt_source:
        _run(recipe, ["bash", str(Path(__file__).parent / "source_package.sh"), recipe.apt_source])
    stamp.write_text(wanted)


def set_up(recipe: Recipe, environment: Mapping[str, str], folder: Path) -> None:
    """Have the application make its tables.

    Raises CorpusError with the last lines of what it printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [recipe.home / "bin", recipe.home / "node_modules" / ".bin"]
    own = {**environment, "PATH": ":".join([*map(str, paths), environment["PATH"]]), "APPLICATION": str(recipe.home)}
    _run(recipe, ["bash", "-euo", "pipefail", "-c", recipe.setup], folder, own)


def _run(
    recipe: Recipe, command: list[str], folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> None:
    done = subprocess.run(
        command,
        cwd=folder or recipe.home,
        env=dict(environment),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-25:])
        raise CorpusError(f"{recipe.name}: {Path(command[0]).name} ended with status {done.returncode}:\n{last}")
