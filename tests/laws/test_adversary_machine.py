"""Whatever a thief of a node does between what honest people do: nothing of theirs goes, and nothing forged comes."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from doubles.adversary.besieged_region import DAY, POLICY, TENANTS, BesiegedRegion, Rows
from doubles.adversary.node_thief import AREAS, JUNK, NodeThief
from doubles.adversary.object_mover import Move, ObjectMover
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from backupd.errors import BackupdError, BusyError
from backupd.model.ids import SnapshotName
from backupd.repository.marks import LONGEST_RUN

MEMORY = Path("/dev/shm")
"""Where Linux has a file system in memory: the indexes' waiting for a disk would be most of the time."""
picks = st.integers(0, 999)
ages = st.sampled_from([0, 0, 1, 25, 60, -100]).map(lambda hours: timedelta(hours=hours))
pasts = st.sampled_from([0, 0, 1, 5, 23, 49, -23, -49]).map(lambda hours: timedelta(hours=hours))
contents = st.sampled_from(sorted(JUNK))
stead = st.sampled_from(["nothing", "junk", "bit"])
moves = st.lists(st.builds(Move, st.integers(1, 15), picks, stead), min_size=2, max_size=8)


class Adversary(RuleBasedStateMachine):
    """Honest operations, and a thief's between them."""

    @initialize(seed=st.integers(0, 2**32), rights=st.sampled_from(["hand in", "add", "write"]), signing=st.booleans())
    def begin(self, seed: int, rights: str, signing: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="adversary-", dir=MEMORY if MEMORY.is_dir() else None))
        self.region = BesiegedRegion(self.folder, rights == "hand in", random.Random(seed).randbytes)
        self.thief = NodeThief(self.region, rights, signing)
        self.mover = ObjectMover(self.thief)
        self.backup()
        self.keep()

    # ---- honest people

    @rule(tenant=st.sampled_from(TENANTS))
    def write(self, tenant: str) -> None:
        self.region.write(tenant)

    @rule()
    def backup(self) -> None:
        self._bear(self.region.backup())

    @rule(pick=picks, at=st.sampled_from(["begun", "keyrings", "packs"]))
    def backup_beside_a_keeper(self, pick: int, at: str) -> None:
        """While a run goes on, the thief says that it is over, and the keeper removes what nobody needs."""

        def meanwhile(stage: str) -> None:
            if stage == at:
                self.thief.end_runs(pick)
                self._bear(self.region.expire())
                self._look_who_is_gone()

        self._bear(self.region.backup(meanwhile))

    @rule()
    def keep(self) -> None:
        self._bear(self.region.keep())
        self._look_who_is_gone()

    @precondition(lambda self: self.thief.rights != "hand in")
    @rule(moves=moves)
    def keep_while_things_move(self, moves: list[Move]) -> None:
        """Between the keeper's calls, honest objects come to stand where keepers clear."""
        with self.mover.at_work(moves):
            self._bear(self.region.keep())
        self._look_who_is_gone()

    @precondition(lambda self: len(self.region.purged) < 2)
    @rule(tenant=st.sampled_from(TENANTS))
    def erase(self, tenant: str) -> None:
        if tenant not in self.region.purged:
            self.thief.copy_keyrings()
            self._bear(self.region.erase(tenant))

    @rule(hours=st.sampled_from([1, 7, 25, 25, 50]))
    def time_passes(self, hours: int) -> None:
        self.region.tick(timedelta(hours=hours))

    @rule()
    def restore(self) -> None:
        self._check_restores(strictly=not self.thief.disturbs)

    @rule()
    def prove(self) -> None:
        self._bear(self.region.prove())

    # ---- the thief

    @rule(area=st.sampled_from(AREAS), content=contents, pick=picks, ago=ages)
    def junk(self, area: str, content: str, pick: int, ago: timedelta) -> None:
        self.thief.junk(area, content, pick, ago)

    @rule(pick=picks, ago=ages, before=st.booleans())
    def shadow_keyring(self, pick: int, ago: timedelta, before: bool) -> None:
        self.thief.shadow_keyring(pick, ago, before=before)

    @rule(pick=picks, ago=ages)
    def claiming_keyring(self, pick: int, ago: timedelta) -> None:
        self.thief.claiming_keyring(pick, ago)

    @rule(back=pasts, empty=st.booleans(), ago=ages)
    def false_backup(self, back: timedelta, empty: bool, ago: timedelta) -> None:
        self.thief.false_backup(back, empty=empty, ago=ago)

    @rule(
        pick=picks,
        back=pasts,
        how=st.sampled_from(["older", "ahead", "later", "empty", "fewer", "reduced", "ledger", "chain"]),
    )
    def false_record(self, pick: int, back: timedelta, how: str) -> None:
        self.thief.false_record(pick, back, how)

    @rule(everybody=st.booleans())
    def false_entry(self, everybody: bool) -> None:
        self.thief.false_entry(everybody=everybody)

    @rule()
    def false_repository(self) -> None:
        self.thief.false_repository()

    @rule(
        pick=picks,
        place=st.sampled_from(["upload", "upload", "odd", "pack", "keyring", "mark", "ballast"]),
        instead=stead,
    )
    def hide(self, pick: int, place: str, instead: str) -> None:
        self.mover.hide(pick, place, instead)

    @rule(pick=picks, how=st.sampled_from(["remove", "cut", "line", "bit", "older"]))
    def alter(self, pick: int, how: str) -> None:
        self.thief.alter(pick, how)

    @rule(pick=picks, how=st.sampled_from(["remove", "cut", "swap", "bit"]))
    def spoil(self, pick: int, how: str) -> None:
        self.thief.spoil(pick, how)

    @rule()
    def mend(self) -> None:
        self.thief.mend()

    # ---- what must hold

    def _bear(self, errors: list[BackupdError]) -> None:
        """While something is not where it belongs, work may be refused; who is at work may be waited for. Whatever else
        stops honest work is named: the object that somebody put there.
        """
        if not self.thief.disturbs:
            for error in errors:
                assert isinstance(error, BusyError) or self.thief.is_named_in(error.message), (
                    type(error),
                    error.message,
                )

    def _look_who_is_gone(self) -> None:
        """A keeper took no honest snapshot before its time, and purges nothing but what people asked for."""
        region = self.region
        for tenant, pseudonym in region.segments_purged():
            owner = region.owners.get(pseudonym)
            if pseudonym in region.owners:
                assert owner in region.purged, "a purge takes what is somebody else's"
                assert region.purged[owner].tenant == tenant
        if self.thief.disturbs:
            return
        living = region.living()
        for snapshot in living:
            if (region.root / region.places(snapshot)[0]).exists():
                region.arrived.setdefault(snapshot, region.time.now)
        for snapshot in living:
            if not any((region.root / place).exists() for place in region.places(snapshot)):
                lost = self.thief.spoils and snapshot not in region.arrived
                assert lost or self._may_be_gone(snapshot), "a snapshot expired before its time"
                region.expired.add(snapshot)

    def _may_be_gone(self, snapshot: SnapshotName) -> bool:
        region = self.region
        exported, now = region.exported(snapshot), region.time.now
        if now - exported > POLICY.max_age - timedelta(minutes=1):
            return True
        if now - exported <= POLICY.keep_within:
            return False
        day = (now.date() - exported.date()).days
        same_day = [one for one in region.arrived if region.exported(one).date() == exported.date()]
        if day >= POLICY.daily or any(self._worth(one) > self._worth(snapshot) for one in same_day):
            return True
        # Nobody can tell a false record from a true one while the writer's next one has not come, and a true one that
        # came late counts only where there is no other; so does one that was not there when a keeper looked.
        rivals = [one for one in self.thief.rivals if one.date() == exported.date()]
        followed = any(one > snapshot for one in region.arrived.keys() - region.expired)
        touched = not self.thief.touched.isdisjoint(region.places(snapshot))
        return bool(rivals) and (touched or self._is_late(snapshot) or not followed)

    def _is_late(self, snapshot: SnapshotName) -> bool:
        """Whether no keeper took it in within a run's longest time."""
        region = self.region
        return region.arrived.get(snapshot, region.time.now) - region.exported(snapshot) > LONGEST_RUN

    def _worth(self, snapshot: SnapshotName) -> tuple[bool, bool, SnapshotName]:
        """By what one of a day is better: what a keeper took in late is known to be true by nobody but the writer."""
        return not self._is_late(snapshot), snapshot in self.region.proven(), snapshot

    def _check_restores(self, *, strictly: bool) -> None:
        """Every honest snapshot has exactly its rows; without the node's key, no other is believed."""
        region = self.region
        for snapshot in region.living():
            if not (region.root / region.places(snapshot)[0]).exists() and self.thief.rights == "hand in":
                continue  # on its way
            refused, rows = self._restored(snapshot)
            for error in refused:
                named = self.thief.named_in(error.message)
                assert named or not strictly, (snapshot, type(error).__name__, error.message)
            assert refused or rows == region.expected(snapshot), (rows, region.expected(snapshot))
        for snapshot in () if self.thief.signing else region.repository.snapshots():
            refused, _ = self._restored(snapshot)
            assert refused or snapshot in region.written, "something is restored that nobody honest wrote"

    def teardown(self) -> None:
        if hasattr(self, "region"):
            try:
                self._end()
            finally:
                shutil.rmtree(self.folder)

    def _end(self) -> None:
        """The thief is shut out, what he took away is put back, and what stops somebody is removed by hand, as the
        manual's `incidents` has it; some days later all is well, whatever else he added.
        """
        region = self.region
        self._check_restores(strictly=False)
        self.thief.mend()
        self._follow_incidents(self._verified)
        if TENANTS[-1] not in region.purged:
            self._follow_incidents(lambda: region.erase(TENANTS[-1]))
        for _ in range(8):
            region.tick(DAY)
            self._follow_incidents(region.backup)
            self._follow_incidents(region.keep)
            self._look_who_is_gone()
        for wanted in (*region.living(), "latest"):
            self._follow_incidents(lambda wanted=wanted: self._restored(wanted)[0])
        self._check_restores(strictly=True)
        newest, rows = region.restore("latest")
        assert newest == region.living()[-1]
        assert rows == region.expected(newest)
        for finding in self._verified():
            assert self.thief.named_in(finding.message), finding.message
        for tenant in region.purged:
            region.attest(tenant)

    def _verified(self) -> list[BackupdError]:
        return self.region.prove()

    def _restored(self, wanted: str) -> tuple[list[BackupdError], Rows]:
        try:
            return [], self.region.restore(wanted)[1]
        except BackupdError as error:
            return [error], {}

    def _follow_incidents(self, step: Callable[[], list[BackupdError]]) -> None:
        """Do it until it is done: each error names what cannot be believed and is to be removed, or somebody at work,
        who is waited for. What can be believed, because a node signed it, stays until it expires.
        """
        for _ in range(40):
            errors, removed = step(), 0
            for error in errors:
                named = self.thief.is_named_in(error.message)
                assert named or isinstance(error, BusyError), (type(error).__name__, error.message)
                for path in self.thief.named_in(error.message):
                    if not self.region.believes(path):
                        path.unlink()
                        removed += 1
            if not errors or (step == self._verified and not removed):
                return
            if any(isinstance(error, BusyError) for error in errors):
                self.region.tick(timedelta(hours=2))
        raise AssertionError([(type(error).__name__, error.message) for error in errors])


TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(
    max_examples=int(os.environ.get("ADVERSARY_SEQUENCES", "20")),
    stateful_step_count=20,
    phases=[Phase.explicit, Phase.generate, Phase.shrink] if "ADVERSARY_SHRINK" in os.environ else [Phase.generate],
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
