"""What can go wrong in service, in one table: what each alert means, and what to do about it.

The daemon's own alarms have codes; the other names are rules of `systemd/alerts.yml`, which also fire when nobody
judges any more. `backupd manual alerts` is printed from this table, and tests compare the rules with it.
"""

from __future__ import annotations

from typing import NamedTuple

from backupd.model.status import AlarmCode


class Alert(NamedTuple):
    """One thing that can be wrong, under the name the daemon gives it, the rule's name, or both."""

    code: AlarmCode | None
    rule: str | None
    means: str
    do: str

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which people may meet it."""
        return tuple(name for name in (self.code and self.code.value, self.rule) if name)


ALERTS = (
    Alert(
        None,
        "BackupdDown",
        "Prometheus gets nothing from any daemon.",
        "Look at `systemctl status backupd`, and check that Prometheus asks the right address.",
    ),
    Alert(
        None,
        "BackupdStuck",
        "The daemon runs, but its loop does not turn, or a job hangs and cannot be killed.",
        "The watchdog restarts it. If it does not, `systemctl restart backupd`, and look for a disk or a mount that "
        "hangs.",
    ),
    Alert(
        AlarmCode.NOT_OBSERVED,
        "BackupdNotObserved",
        "Nobody has seen for long how a region stands. What was seen last may no longer be true.",
        "Read what the daemon's `observe` jobs say in the log. `backupd status` looks now.",
    ),
    Alert(
        AlarmCode.JOB_FAILED,
        "BackupdJobFailing",
        "A job failed three times, or in a way that trying again cannot help.",
        "The message says what is in the way and what to do. Then `systemctl reload backupd`, or wait for the next "
        "time.",
    ),
    Alert(
        AlarmCode.JOB_FOUND,
        None,
        "A job worked, and found damage, a failed drill, or a tenant past a date.",
        "Run its command by hand to see all of it. For damage: copy the object from another store, and find out what "
        "altered this one.",
    ),
    Alert(
        None,
        "BackupdJobOverdue",
        "A job was due an hour ago and has not begun.",
        "Too much runs at once (`daemon.heavy`), or a job before it takes too long.",
    ),
    Alert(
        AlarmCode.BACKUP_OLD,
        "BackupdBackupOld",
        "The newest snapshot of a database on a store is older than `objectives.rpo`: too much would be lost.",
        "Find out why `backup` fails, or whether it runs too rarely for the store's line.",
    ),
    Alert(
        AlarmCode.PROOF_STALE,
        "BackupdProofStale",
        "No drill has passed for `objectives.drill_every` and a fourth of it. A backup that was never restored is a "
        "hope.",
        "`backupd report list` says which drills failed, and why.",
    ),
    Alert(
        AlarmCode.DEADLINE_NEAR,
        "BackupdDeadlineNear",
        "Less than `lifecycle.repair_slack` is left until a tenant's deadline, when everything of it should be gone "
        "already. For a tenant who asked to be erased, whose dates leave no slack, it is the deadline itself.",
        "Something stands still: a store that is away, a keeper that does not run, or store snapshots that live too "
        "long. `backupd purge` says which. You have the slack to mend it.",
    ),
    Alert(
        AlarmCode.DEADLINE_MISSED,
        "BackupdDeadlineMissed",
        "A tenant is past a date.",
        "`backupd tenant list` says which, by id. Report it to whoever answers for the promise, then do as above.",
    ),
    Alert(
        AlarmCode.KEEPER_IDLE,
        "BackupdKeeperIdle",
        "No keeper's run has completed on a store for `lifecycle.expiry_gap`, and deadlines count on one.",
        "Check that the keeper's daemon runs, that its credential is good, and that it reaches the store.",
    ),
    Alert(
        AlarmCode.STORE_UNREACHABLE,
        "BackupdStoreUnreachable",
        "A store has not answered for half an hour, or refuses us.",
        "The message says which. Backups to other stores go on. A refused key or host key is never tried again "
        "without you.",
    ),
    Alert(
        AlarmCode.STORE_FULL,
        "BackupdStoreFull",
        "Less than a tenth of a store's room is left.",
        "Get more, or keep less (`retention`). The store's own snapshots hold on to what was removed for a while.",
    ),
    Alert(
        AlarmCode.STORE_SNAPSHOTS,
        "BackupdStoreSnapshotsChanged",
        "The store's own snapshots are gone, fewer or more than usual, no longer made, or live longer than "
        "`lifecycle.store_snapshots`.",
        "Find out whether somebody changed the account's schedule. Fewer snapshots protect less from a thief of the "
        "keeper; longer ones hold tenants past their deadline: configure what is true, and read `backupd plan`.",
    ),
    Alert(
        AlarmCode.CAPABILITY_CHANGED,
        "BackupdCapabilityLost",
        "The store can no longer do what it could when its repository was made: refuse removal, sync, hash, report "
        "its room, or show its snapshots.",
        "Ask who runs it. Where `append_only` is lost, a stolen node can remove backups until it is back.",
    ),
    Alert(
        AlarmCode.LEDGER_BEHIND,
        "BackupdLedgerBehind",
        "A store has lacked entries of the ledger that others have for two hours.",
        "The keeper's next run brings them. If not, `backupd ledger verify` says why.",
    ),
    Alert(
        AlarmCode.LEDGER_AHEAD,
        None,
        "An entry of the ledger is dated ahead: nothing can be appended until its time has come.",
        "If this machine's clock is right, `backupd ledger redate`; `backupd manual tenants` says what the entry's "
        "dates mean then.",
    ),
    Alert(
        None,
        "BackupdMessagesFailing",
        "A target takes no messages: people may not hear of anything else.",
        "The log says which line of which file. The service behind it may be gone, or its password changed.",
    ),
    Alert(
        None,
        "BackupdAlarm",
        "One of the daemon's own alarms has been in force for a quarter of an hour.",
        "Look up that name in this table.",
    ),
)
"""Every alert, in the order in which they are shown."""
