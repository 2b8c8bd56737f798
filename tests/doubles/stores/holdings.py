"""What lies on a store, looked at from outside: every section with its bytes, and whose keys open."""

from __future__ import annotations

import hashlib

from backupd.model.ids import ObjectName, Pseudonym
from backupd.repository import layout
from backupd.repository.repository import Repository


def stored_sections(repository: Repository) -> dict[tuple[str, Pseudonym, int], bytes]:
    """Every section on the store by pack, segment and number, each compared with its hash."""
    found = {}
    for info in sorted(repository.store.list(layout.PACKS), key=lambda one: one.name):
        place = layout.place_of(info.name)
        assert place.generation is not None
        assert place.sha256 is not None
        pack = repository.pack(place.generation, place.sha256)
        data = repository.store.get(pack.name)
        assert len(data) == pack.there.pack_size
        for section in pack.sections():
            one = data[section.offset : section.offset + section.row.length]
            assert hashlib.sha256(one).digest() == section.row.sha256
            found[pack.name, section.row.segment, section.row.number] = one
    return found


def stored_segments(repository: Repository) -> set[Pseudonym]:
    """The segments of which a pack on the store holds a section."""
    return {segment for _, segment, _ in stored_sections(repository)}


def keyring_names(repository: Repository) -> list[ObjectName]:
    listed = (info.name for info in repository.store.list(layout.KEYRINGS))
    return sorted(name for name in listed if layout.place_of(name).kind is layout.ObjectKind.KEYRING)


def opened_tenants(repository: Repository, identity_secret: bytes) -> set[str | None]:
    """The tenants of whom a keyring on the store holds a key, all of which the identity opens."""
    found = set()
    for name in keyring_names(repository):
        keyring = repository.keyring(name)
        opened = keyring.open(identity_secret)
        found |= {opened.key(place).name.tenant for place in keyring.sealed}
    return found
