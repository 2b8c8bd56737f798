"""Where an SFTP store is and how to reach it, as the configuration says it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SftpTarget:
    """One region's folder in one account."""

    host: str
    port: int
    user: str
    key_file: Path
    """An unencrypted OpenSSH private key; the only way we log in."""
    host_keys: tuple[str, ...]
    """`type base64` as in a known_hosts line or a .pub file. No other key is ever accepted."""
    path: str
    """The store's root; relative to the account's home unless it starts with a slash. Empty: the home itself."""
    region: str
    connections: int = 4
    bandwidth: int = 0
    """Bytes per second over all connections and both directions; 0: no limit."""
    deadline: float = 60.0
    """Seconds without any answer after which a connection with questions under way counts as dead."""
    patience: float = 600.0
    """Seconds over which a call is tried again on fresh connections; 0: a broken connection fails the call at once."""
    shared: bool = False
    """Whether the account's group reads what is put here: a node what a keeper puts, a keeper what a node hands in."""
    flat: bool = False
    """Whether no folder is made below the region's, temporary ones neither: names given hold none."""

    @property
    def root(self) -> str:
        """The region's folder, as the server is told it."""
        return "/".join(part for part in (self.path.rstrip("/"), self.region) if part)
