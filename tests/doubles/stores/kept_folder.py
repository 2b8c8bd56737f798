"""A store in a folder with its keeper: files of any age, and expiry as the keeper's command does it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from backupd.model.ledger import Expired
from backupd.operations.expiry.run import Expiry, ExpiryPlan
from backupd.operations.keeper.types import Keeper
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache


@dataclass(kw_only=True)
class KeptFolder:
    """One store, named `disk`, and who removes from it; who adds to it is for others to say."""

    root: Path
    keeper: Keeper

    def put(self, name: str, data: bytes, days_ago: float) -> None:
        """An object that was written so many days ago."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.age(name, days_ago)

    def age(self, name: str, days_ago: float) -> None:
        at = (datetime.now(UTC) - timedelta(days=days_ago)).timestamp()
        os.utime(self.root / name, (at, at))

    def files(self) -> dict[str, str]:
        """Every object with its hash; the store's own snapshots left out."""
        return {
            str(path.relative_to(self.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.root.rglob("*")
            if path.is_file() and ".zfs" not in path.parts
        }

    def plan(self) -> ExpiryPlan:
        with self.census() as census:
            return Expiry(self.keeper, "disk", census).plan()

    def execute(self, plan: ExpiryPlan, confirmed: int | None = None) -> Expired:
        with self.census() as census:
            return Expiry(self.keeper, "disk", census).execute(plan, confirmed)

    def expire(self) -> Expired:
        return self.execute(self.plan())

    def census(self) -> Any:
        return KeyringCache.opened(self.keeper.cache_path("disk"), self.keeper.repository, self.keeper.tags)

    def ruled(self, **changes: Any) -> None:
        """Change the keeper's rules from now on."""
        self.keeper = replace(self.keeper, rules=replace(self.keeper.rules, **changes))

    @property
    def repository(self) -> Repository:
        return self.keeper.stores["disk"]
