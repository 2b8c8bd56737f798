"""The final places of everything that `backupd setup` makes: beside the configuration, or where units get secrets."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.cli.wizard import dialogue
from backupd.config.draft import ConfigDraft, StoreDraft, complaint
from backupd.errors import RefusedError

if TYPE_CHECKING:
    from backupd.cli.wizard.keys import KeyAnswers

_SECRETS = ("signing.key", "tenant.key", "store.key", "pgpass")
_KEEPERS = ("tenant.key", "store.key", "pgpass")
"""Secrets that the keeper's unit needs, too."""
_IDENTITIES = ("ops.identity", "escrow.identity", "ops.recipient", "escrow.recipient")


@dataclass(frozen=True, slots=True)
class SetupPlaces:
    """The configuration's place and all that lies beside it."""

    config: Path
    units: bool
    """Whether secrets go where systemd takes them from, to hand them over as credentials."""

    @property
    def home(self) -> Path:
        """The folder of the configuration."""
        return self.config.parent

    def file(self, name: str, role: str = "node") -> Path:
        """Return the final place of a file."""
        if self.units and (name in _SECRETS or (name == "keeper.key" and role == "keeper")):
            return self.home / "credentials" / role / name
        return self.home / name

    def require_free(self) -> None:
        """Raise RefusedError when a file is there that setup would make, but for the example of an installation."""
        taken = [self.file(name) for name in (*_SECRETS, "keeper.key", *_IDENTITIES)]
        taken += [self.file(name, "keeper") for name in (*_KEEPERS, "keeper.key")]
        if self.config.exists() and not self._is_example():
            taken.insert(0, self.config)
        for path in taken:
            if path.exists() or path.is_symlink():
                raise RefusedError(
                    f"'{path}' exists, and setup overwrites nothing",
                    hint="Change the configuration by hand, or name another file with --config.",
                )

    def _is_example(self) -> bool:
        example = importlib.resources.files("backupd.config").joinpath("example.toml").read_bytes()
        return self.config.read_bytes() == example

    def give_mode(self, staged: Path) -> None:
        """Give the new configuration the owner, group and mode of the example it replaces; it holds no secret."""
        import os

        if self.config.exists():
            before = self.config.stat()
            os.chown(staged, before.st_uid, before.st_gid)
            staged.chmod(before.st_mode & 0o777)
        else:
            staged.chmod(0o644)

    def ask_folders(self) -> dict[str, str]:
        """Ask for the folders that hold state; those of an installation are not asked for."""
        if self.units:
            return {}
        usual = {"state_dir": "/var/lib/backupd", "spool_dir": "/var/spool/backupd"}
        texts = {
            "state_dir": "Folder for what this machine remembers",
            "spool_dir": "Folder for what waits for the store",
        }
        dialogue.say("")
        asked = {
            key: dialogue.ask(texts[key], path, lambda text: complaint("folder", text)) for key, path in usual.items()
        }
        return {key: path for key, path in asked.items() if path != usual[key]}

    def staged(self, draft: ConfigDraft, folder: Path, keys: KeyAnswers) -> ConfigDraft:
        """Return the draft with every file where it is while setup runs, to try it."""
        files = {name: str(folder / name) for name in self._made(folder)}
        recipients = tuple(str(folder / name) for name in keys.recipients)
        return self._filled(draft, files, recipients)

    def final(self, draft: ConfigDraft, keys: KeyAnswers, folder: Path) -> ConfigDraft:
        """Return the draft with every file where it will be."""
        files = {
            name: f"credential:{name}" if self.units and (name in _SECRETS or draft.keeps) else str(self.file(name))
            for name in self._made(folder)
        }
        return self._filled(draft, files, tuple(str(self.file(name)) for name in keys.recipients))

    def moves(self, folder: Path, keys: KeyAnswers) -> dict[str, tuple[str, Path]]:
        """Return the name of each staged file with the one it is a copy of, itself mostly, and its final place."""
        keeper = "keeper" if keys.keeps else "node"
        found = {
            name: (name, self.file(name, keeper if name == "keeper.key" else "node")) for name in self._made(folder)
        }
        found |= {
            name: (name, self.file(name)) for name in (*keys.recipients, *keys.identities) if name not in keys.there
        }
        if self.units and keys.keeps:
            made = [name for name in _KEEPERS if name in self._made(folder)]
            found |= {f"keeper-{name}": (name, self.file(name, "keeper")) for name in made}
        return found

    def _made(self, folder: Path) -> list[str]:
        return [name for name in (*_SECRETS, "keeper.key") if (folder / name).exists()]

    @staticmethod
    def _filled(draft: ConfigDraft, files: dict[str, str], recipients: tuple[str, ...]) -> ConfigDraft:
        keys = {**draft.store.keys, **({"key": files["store.key"]} if "store.key" in files else {})}
        store = StoreDraft(draft.store.name, draft.store.location, keys)
        return replace(draft, files=files, recipients=recipients, store=store)


def places_of(config: Path) -> SetupPlaces:
    """Return the places for a configuration: with units when its folder has those of an installation."""
    absolute = config.absolute()
    return SetupPlaces(absolute, (absolute.parent / "credentials" / "node").is_dir())
