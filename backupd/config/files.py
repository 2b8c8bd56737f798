"""What can be said about the files a configuration names, without reading a secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from backupd.config.faults import Fault, Finding, in_file_order
from backupd.config.positions import KeyPath, positions
from backupd.config.schema import Config, SftpStore
from backupd.config.secrets import FileRef

_OPEN_HINT = "Only its owner may read it: `chmod 600` it."


@dataclass(frozen=True, slots=True)
class FileReport:
    """What was found, and what could not be looked at from here."""

    faults: tuple[Fault, ...]
    unchecked: tuple[str, ...]
    """Credentials, when this process was given none."""


def file_faults(config: Config, text: str, environ: Mapping[str, str]) -> FileReport:
    """Look at every file `config`, written as `text`, names."""
    secrets = list(_secrets(config))
    beyond = [ref for _, ref in secrets if ref.is_credential and not environ.get("CREDENTIALS_DIRECTORY")]
    findings = [
        *_looked_at([(path, ref.resolve(environ)) for path, ref in secrets if ref not in beyond], _secret_fault),
        *_looked_at([(("recipients", index), path) for index, path in enumerate(config.recipients)], _file_fault),
        *_looked_at(
            [(("node", "client_dirs", i), path) for i, path in enumerate(config.node.client_dirs)], _clients_fault
        ),
    ]
    return FileReport(tuple(in_file_order(findings, positions(text))), tuple(dict.fromkeys(ref.text for ref in beyond)))


def _secrets(config: Config) -> Iterator[tuple[KeyPath, FileRef]]:
    if config.node.signing_key_file is not None:
        yield ("node", "signing_key_file"), config.node.signing_key_file
    for name, store in config.stores.items():
        if isinstance(store, SftpStore):
            yield ("stores", name, "key"), store.key
    for name, region in config.regions.items():
        for label, database in region.databases.items():
            path = ("regions", name, "databases", label)
            if database.passfile is not None:
                yield (*path, "passfile"), database.passfile
            if database.servicefile is not None:
                yield (*path, "servicefile"), database.servicefile


def _looked_at(places: list[tuple[KeyPath, Path]], look: Callable[[Path], tuple[str, str] | None]) -> Iterator[Finding]:
    for path, file in places:
        found = look(file)
        if found is not None:
            yield (path, *found)


def _file_fault(file: Path) -> tuple[str, str] | None:
    try:
        mode = file.stat().st_mode
    except OSError as error:
        return f'"{file}" cannot be found: {error.strerror}', ""
    if not stat.S_ISREG(mode):
        return f'"{file}" is not a regular file', ""
    return None if os.access(file, os.R_OK) else (f'"{file}" cannot be read by this user', "")


def _secret_fault(file: Path) -> tuple[str, str] | None:
    fault = _file_fault(file)
    if fault is None and file.stat().st_mode & 0o077:
        return f'"{file}" is open to other users', _OPEN_HINT
    return fault


def _clients_fault(folder: Path) -> tuple[str, str] | None:
    if os.access(folder / "pg_dump", os.X_OK):
        return None
    return f'"{folder}" holds no pg_dump', "Name the folder of one PostgreSQL version's programs."
