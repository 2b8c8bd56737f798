"""Objects on a store, by name and content alone: the size and the hash that a store asks for follow from that."""

from __future__ import annotations

import hashlib
import io

from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import Store, StoreView


def digest(data: bytes) -> ObjectHash:
    return ObjectHash(hashlib.sha256(data).hexdigest())


def put(store: Store, name: ObjectName, data: bytes) -> None:
    store.put_new(name, io.BytesIO(data), len(data), digest(data))


def replace(store: Store, name: ObjectName, data: bytes) -> None:
    store.replace(name, io.BytesIO(data), len(data), digest(data))


def names(view: StoreView, prefix: str = "") -> list[ObjectName]:
    return sorted(info.name for info in view.list(prefix))
