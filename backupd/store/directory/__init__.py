"""The store adapter over a folder of this machine."""

from backupd.store.directory.store import DirectoryStore

__all__ = [
    "DirectoryStore",
]
