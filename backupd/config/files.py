"""Checks of the files that a configuration names, without reading a secret."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from backupd.config.faults import Finding
from backupd.config.schema import Config, SftpStoreSection
from backupd.config.secrets import FileRef
from backupd.config.toml_lines import KeyPath
from backupd.secret_files import is_open_to_others

_OPEN_HINT = "Only its owner may read it: `chmod 600` it."


def file_findings(config: Config, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield what is wrong with the files that `config` names, except credentials of other processes."""
    beyond = unavailable_credentials(config, environ)
    secrets = [(path, ref.resolve(environ)) for path, ref in secret_files(config) if ref.text not in beyond]
    recipients = [(("recipients", index), path) for index, path in enumerate(config.recipients)]
    clients = [(("node", "client_dirs", index), path) for index, path in enumerate(config.node.client_dirs)]
    yield from _check_each(secrets, _secret_fault)
    yield from _check_each(recipients, _file_fault)
    yield from _check_each(clients, _clients_fault)
    yield from _check_each(list(_hooks(config)), _program_fault)


def unavailable_credentials(config: Config, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the credentials that this process cannot look at, as they are written.

    Those are all of them where this process was given none; otherwise those of roles that it does not have.
    """
    outside = not environ.get("CREDENTIALS_DIRECTORY")
    missing = ((path, ref.text) for path, ref in secret_files(config) if not ref.is_given(environ))
    return tuple(dict.fromkeys(text for path, text in missing if outside or _of_a_role(path)))


def _of_a_role(path: KeyPath) -> bool:
    """Check whether only one of a machine's units has the key: the writer, the keeper, or the drill."""
    return path[0] in ("keeper", "drill") or path[-1] in ("signing_key_file", "keeper_key")


def secret_files(config: Config) -> Iterator[tuple[KeyPath, FileRef]]:
    """Yield each file with a secret that this machine's configuration names, by its key path."""
    files = chain(_own_secrets(config), _notify_secrets(config), _store_secrets(config), _region_secrets(config))
    return ((path, ref) for path, ref in files if ref is not None)


def _own_secrets(config: Config) -> Iterator[tuple[KeyPath, FileRef | None]]:
    yield ("node", "signing_key_file"), config.node.signing_key_file
    yield ("node", "tenant_key_file"), config.node.tenant_key_file
    if config.keeper is not None:
        yield ("keeper", "signing_key_file"), config.keeper.signing_key_file
    if config.drill is not None:
        files = "identity", "passphrase_file", "escrow_identity", "escrow_passphrase_file"
        for name in (*files, "target_passfile", "target_servicefile"):
            yield ("drill", name), getattr(config.drill, name)


def _notify_secrets(config: Config) -> Iterator[tuple[KeyPath, FileRef | None]]:
    for name in ("urls", "heartbeat"):
        for index, file in enumerate(getattr(config.notify, name)):
            yield ("notify", name, index), file


def _store_secrets(config: Config) -> Iterator[tuple[KeyPath, FileRef | None]]:
    for name, store in config.stores.items():
        if isinstance(store, SftpStoreSection):
            yield ("stores", name, "key"), store.key
            yield ("stores", name, "keeper_key"), store.keeper_key if config.keeper is not None else None


def _region_secrets(config: Config) -> Iterator[tuple[KeyPath, FileRef | None]]:
    for name, region in config.regions.items():
        if region.lifecycle.query is not None:
            yield ("regions", name, "lifecycle", "query", "passfile"), region.lifecycle.query.passfile
        for label, database in region.databases.items():
            path = ("regions", name, "databases", label)
            yield (*path, "passfile"), database.passfile
            yield (*path, "servicefile"), database.servicefile


def _hooks(config: Config) -> Iterator[tuple[KeyPath, Path]]:
    for name, region in config.regions.items():
        for key in ("run_before", "run_after", "run_on_failure"):
            arguments = getattr(region.hooks, key)
            if arguments is not None:
                yield ("regions", name, "hooks", key), Path(arguments[0])


def _check_each(
    places: Sequence[tuple[KeyPath, Path]], check: Callable[[Path], tuple[str, str] | None]
) -> Iterator[Finding]:
    for path, file in places:
        found = check(file)
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
    if fault is None and is_open_to_others(file.stat()):
        return f'"{file}" is open to other users', _OPEN_HINT
    return fault


def _program_fault(file: Path) -> tuple[str, str] | None:
    if os.access(file, os.X_OK) and file.is_file():
        return None
    return f'"{file}" is no program that this user may run', "Name it by its absolute path, and make it executable."


def _clients_fault(folder: Path) -> tuple[str, str] | None:
    if os.access(folder / "pg_dump", os.X_OK):
        return None
    return f'"{folder}" holds no pg_dump', "Name the folder of one PostgreSQL version's programs."
