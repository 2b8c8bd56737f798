"""The promises hold after everything that can happen to tenants, stores and machines, in all orders."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

from doubles.lifecycle.lifecycle_model import OWN
from doubles.lifecycle.lifecycle_world import SHORT, TENANTS, World
from doubles.stores.memory_store import KillingFuse
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

MEMORY = Path("/dev/shm")
"""Where Linux has a file system in memory: the indexes' waiting for a disk would be most of the time."""
tenants = st.sampled_from(TENANTS)
stores = st.sampled_from(["near", "far"])
scopes = st.sampled_from(["", "", "", OWN])
classes = st.sampled_from(["uploaded", "uploaded", OWN, SHORT])
references = st.sampled_from(["CASE-1", "CASE-2"])
spans = st.sampled_from([1, 7, 26, 50, 120]).map(lambda hours: timedelta(hours=hours))


@st.composite
def fuses(draw: st.DrawFn, most: int) -> KillingFuse:
    return KillingFuse(draw(st.integers(1, most)), draw(st.booleans()))


class Lifecycle(RuleBasedStateMachine):
    """The events of issue 3, in any order."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lifecycle-", dir=MEMORY if MEMORY.is_dir() else None))
        self.world = World(self.folder, random.Random(seed).randbytes)

    @rule(tenant=tenants, data_class=classes)
    def write(self, tenant: str, data_class: str) -> None:
        self.world.write(tenant, data_class)

    @rule(tenant=tenants)
    def empty(self, tenant: str) -> None:
        self.world.empty(tenant)

    @rule(store=stores)
    def backup(self, store: str) -> None:
        self.world.backup(store)

    @rule(store=stores, fuse=fuses(40))
    def failed_backup(self, store: str, fuse: KillingFuse) -> None:
        self.world.backup(store, fuse)

    @rule(store=stores, stages=st.integers(1, 3))
    def step(self, store: str, stages: int) -> None:
        self.world.step(store, stages=stages)

    @rule(store=stores)
    def kill(self, store: str) -> None:
        self.world.kill(store)

    @rule(tenant=tenants, scope=scopes)
    def unsubscribe(self, tenant: str, scope: str) -> None:
        self.world.unsubscribe(tenant, scope)

    @rule(tenant=tenants, scope=scopes)
    def resubscribe(self, tenant: str, scope: str) -> None:
        self.world.resubscribe(tenant, scope)

    @rule(tenant=tenants, scope=scopes)
    def erase(self, tenant: str, scope: str) -> None:
        self.world.erase(tenant, scope)

    @rule(tenant=tenants, fuse=fuses(12))
    def erase_and_die(self, tenant: str, fuse: KillingFuse) -> None:
        self.world.erase(tenant, "", fuse)

    @rule(tenant=tenants)
    def move(self, tenant: str) -> None:
        self.world.move(tenant)

    @rule(tenant=tenants, reference=references)
    def hold(self, tenant: str, reference: str) -> None:
        self.world.hold(tenant, reference)

    @rule(tenant=tenants, reference=references)
    def release(self, tenant: str, reference: str) -> None:
        if reference in self.world.clerk.holds.get(tenant, {}):
            self.world.release(tenant, reference)

    @rule()
    def keep(self) -> None:
        self.world.keep()

    @rule(fuse=fuses(120))
    def keep_and_die(self, fuse: KillingFuse) -> None:
        self.world.keep(fuse)

    @rule(store=stores, hours=st.sampled_from([1, 30, 72]))
    def outage(self, store: str, hours: int) -> None:
        self.world.outage(store, hours)

    @rule(who=st.sampled_from(["keeper", "writer"]), minutes=st.integers(-4, 4))
    def skew(self, who: str, minutes: int) -> None:
        self.world.tick(timedelta(minutes=10))
        self.world.clocks[who].skew = timedelta(minutes=minutes)

    @rule(span=spans)
    def time_passes(self, span: timedelta) -> None:
        self.world.advance(span)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.world.end()
            finally:
                shutil.rmtree(self.folder)


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(
    max_examples=int(os.environ.get("LIFECYCLE_SEQUENCES", "24")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def test_a_purge_during_a_long_run_is_no_damage(tmp_path: Path) -> None:
    """The run ends without a record, as it relied on what the purge took; the next one is whole."""
    world = World(tmp_path, random.Random(7).randbytes)
    world.step("near", stages=3)
    world.erase("ada", "")
    world.keep()
    world.advance(timedelta(hours=26))

    assert "near" not in world.under_way
    assert world.observer.snapshots["near"] == []
    world.backup("near")
    assert len(world.observer.snapshots["near"]) == 1
    world.observer.check()
