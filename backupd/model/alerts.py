"""The table of everything that can go wrong in service: its names, its meaning, advice, and its rule for Prometheus.

The daemon's own alarms have codes. Rules of `systemd/alerts.yml` also fire when the daemon no longer judges. The rules'
file and `backupd manual alerts` are made from this table.
"""

from __future__ import annotations

from typing import NamedTuple

from backupd.model.status import AlarmCode


class AlertRule(NamedTuple):
    """A rule of `systemd/alerts.yml`."""

    name: str
    expression: str
    """The condition, as PromQL over the metrics of `operations.monitoring.metrics`."""
    severity: str
    """`critical` or `warning`, the words that Alertmanager's users route by."""
    summary: str
    """The line that people get, with the labels of the metric as placeholders."""
    lasting: str = ""
    """How long the condition must hold before the rule fires; empty for at once."""


class Alert(NamedTuple):
    """One thing that can be wrong, under the name the daemon gives it, the rule's name, or both."""

    code: AlarmCode | None
    rule: AlertRule | None
    means: str
    do: str

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which people may meet it."""
        return tuple(name for name in (self.code and self.code.value, self.rule and self.rule.name) if name)


ALERTS = (
    Alert(
        None,
        AlertRule(
            "BackupdDown",
            "absent(backupd_build_info)",
            "critical",
            "no daemon of backupd tells anything",
            lasting="10m",
        ),
        "Prometheus gets nothing from any daemon.",
        "Look at `systemctl status backupd`, and check that Prometheus asks the right address.",
    ),
    Alert(
        None,
        AlertRule(
            "BackupdStuck",
            "time() - backupd_watchdog_timestamp_seconds > 300",
            "critical",
            "the daemon on {{ $labels.instance }} no longer turns",
            lasting="5m",
        ),
        "The daemon runs, but its loop does not turn, or a job hangs and cannot be killed.",
        "The watchdog restarts it. If it does not, `systemctl restart backupd`, and look for a disk or a mount that "
        "hangs.",
    ),
    Alert(
        AlarmCode.NOT_OBSERVED,
        AlertRule(
            "BackupdNotObserved",
            "time() - backupd_observed_timestamp_seconds > 3 * 3600",
            "critical",
            "nobody has seen how region {{ $labels.region }} stands for 3 hours",
        ),
        "Nobody has seen for long how a region stands. What was seen last may no longer be true.",
        "Read what the daemon's `observe` jobs say in the log. `backupd status` looks now.",
    ),
    Alert(
        AlarmCode.JOB_FAILED,
        AlertRule(
            "BackupdJobFailing",
            "backupd_job_failing == 1",
            "warning",
            "{{ $labels.kind }} of region {{ $labels.region }} fails",
            lasting="1h",
        ),
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
        AlertRule(
            "BackupdJobOverdue",
            "time() - backupd_job_next_timestamp_seconds > 3600",
            "warning",
            "{{ $labels.kind }} of region {{ $labels.region }} was due, and does not begin",
            lasting="1h",
        ),
        "A job was due an hour ago and has not begun.",
        "Too much runs at once (`daemon.heavy`), or a job before it takes too long.",
    ),
    Alert(
        AlarmCode.BACKUP_OLD,
        AlertRule(
            "BackupdBackupOld",
            "time() - backupd_snapshot_published_timestamp_seconds > on (instance, region) "
            'group_left () backupd_objective_seconds{objective="rpo"}',
            "critical",
            "the newest snapshot of {{ $labels.database }} on {{ $labels.store }} is older than promised",
        ),
        "The newest snapshot of a database on a store is older than `objectives.rpo`: too much would be lost.",
        "Find out why `backup` fails, or whether it runs too rarely for the store's line.",
    ),
    Alert(
        AlarmCode.UNREAD_DIFFERS,
        AlertRule(
            "BackupdUnreadDiffers",
            "backupd_unread_distrusted == 1",
            "critical",
            "backups of {{ $labels.database }} to {{ $labels.store }} may have missed changes",
        ),
        "A backup read everything, and found parts of tables changed that would have been taken over unread. Snapshots "
        "since the comparison before it may lack changes. Nothing is taken over since.",
        "The newest snapshot was read as a whole: keep it. Report the difference, with the server's version. `backupd "
        "backup --audit` ends the alarm when it finds none.",
    ),
    Alert(
        AlarmCode.PROOF_STALE,
        AlertRule(
            "BackupdProofStale",
            "time() - backupd_proof_timestamp_seconds > on (instance, region) 1.25 * "
            'backupd_objective_seconds{objective="drill_every"}',
            "warning",
            "no restore drill of region {{ $labels.region }} passed for too long",
        ),
        "No drill has passed for `objectives.drill_every` and a fourth of it. A backup that was never restored is a "
        "hope.",
        "`backupd report list` says which drills failed, and why.",
    ),
    Alert(
        AlarmCode.DEADLINE_NEAR,
        AlertRule(
            "BackupdDeadlineNear",
            "time() > backupd_deadline_endangered_timestamp_seconds",
            "critical",
            "a tenant's deletion in region {{ $labels.region }} is due soon, and data remains",
        ),
        "Less than `lifecycle.repair_slack` is left until a tenant's deadline, and data remains. For a tenant who "
        "asked to be erased, whose dates leave no slack, it is the deadline itself.",
        "Something stands still: a store that is away, a keeper that does not run, or store snapshots that live too "
        "long. `backupd purge` says which. You have the slack to mend it.",
    ),
    Alert(
        AlarmCode.DEADLINE_MISSED,
        AlertRule(
            "BackupdDeadlineMissed",
            "backupd_late_incarnations > 0",
            "critical",
            "{{ $value }} tenants of region {{ $labels.region }} are past a date",
        ),
        "A tenant is past a date.",
        "`backupd tenant list` says which, by id. Report it to who answers for the promise, then do as above.",
    ),
    Alert(
        AlarmCode.KEEPER_IDLE,
        AlertRule(
            "BackupdKeeperIdle",
            "time() - backupd_keeper_timestamp_seconds > on (instance, region) group_left () "
            'backupd_objective_seconds{objective="expiry_gap"}',
            "critical",
            "no keeper's run came to its end on {{ $labels.store }} for too long",
        ),
        "No keeper's run has completed on a store for `lifecycle.expiry_gap`, and deadlines count on one.",
        "Check that the keeper's daemon runs, that its credential is good, and that it reaches the store.",
    ),
    Alert(
        AlarmCode.STORE_UNREACHABLE,
        AlertRule(
            "BackupdStoreUnreachable",
            "backupd_store_reachable == 0",
            "critical",
            "store {{ $labels.store }} cannot be reached",
            lasting="30m",
        ),
        "A store has not answered for half an hour, or refuses us.",
        "The message says which. Backups to other stores go on. A refused key or host key is never tried again "
        "without you.",
    ),
    Alert(
        AlarmCode.STORE_FULL,
        AlertRule(
            "BackupdStoreFull",
            "backupd_store_free_bytes / backupd_store_size_bytes < 0.1",
            "warning",
            "store {{ $labels.store }} is nearly full",
        ),
        "Less than a tenth of a store's room is left.",
        "Get more, or keep less (`retention`). The store's own snapshots hold on to what was removed for a while.",
    ),
    Alert(
        AlarmCode.STORE_SNAPSHOTS,
        AlertRule(
            "BackupdStoreSnapshotsChanged",
            "backupd_store_own_snapshots_changed == 1",
            "critical",
            "the own snapshots of store {{ $labels.store }} are not as usual",
        ),
        "The store's own snapshots are gone, fewer or more than usual, no longer made, or live longer than "
        "`lifecycle.store_snapshots`.",
        "Find out whether somebody changed the account's schedule. Fewer snapshots protect less from a thief of the "
        "keeper; longer ones hold tenants past their deadline: configure what is true, and read `backupd plan`.",
    ),
    Alert(
        AlarmCode.CAPABILITY_CHANGED,
        AlertRule(
            "BackupdCapabilityLost",
            "backupd_store_capability_lost == 1",
            "critical",
            "store {{ $labels.store }} can no longer do what it could",
        ),
        "The store can no longer do what it could when that was last accepted: refuse removal, sync, hash, report "
        "its room, or show its snapshots.",
        "If that was wanted, `backupd store accept STORE --reason REFERENCE` accepts it. Else ask who runs it: where "
        "`append_only` is lost, a stolen node can remove backups until it is back.",
    ),
    Alert(
        AlarmCode.SIGNER_UNNAMED,
        None,
        "A trusted signer joined after `init`, and the store's repository does not name it: `recover`, given nothing "
        "but the store, leaves out the snapshots that it signed.",
        "`backupd store accept STORE --reason REFERENCE` names today's signers and keepers.",
    ),
    Alert(
        AlarmCode.LEDGER_BEHIND,
        AlertRule(
            "BackupdLedgerBehind",
            "backupd_store_ledger_behind_entries > 0",
            "warning",
            "the ledger on {{ $labels.store }} lacks {{ $value }} entries",
            lasting="2h",
        ),
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
        AlarmCode.CLOCK_BEHIND,
        None,
        "A snapshot is dated ahead of this machine's clock, or was made under a clock that was wrong.",
        "Set the clock that is wrong and have it synchronised; `backupd doctor --probe` compares all of them.",
    ),
    Alert(
        None,
        AlertRule(
            "BackupdMessagesFailing",
            "backupd_message_targets_failing > 0",
            "warning",
            "nobody is notified: {{ $value }} targets take no messages",
            lasting="1h",
        ),
        "A target takes no messages: people may not hear of anything else.",
        "The log says which line of which file. The service behind it may be gone, or its password changed.",
    ),
    Alert(
        None,
        AlertRule(
            "BackupdAlarm",
            'backupd_alarm{severity="error"} == 1',
            "critical",
            "{{ $labels.code }} in region {{ $labels.region }} {{ $labels.subject }}",
            lasting="15m",
        ),
        "One of the daemon's own alarms has been in force for a quarter of an hour.",
        "Look up that name in this table.",
    ),
)
"""Every alert, in the order in which they are shown."""

_HEAD = """\
# Rules for Prometheus. `backupd manual alerts` says what each means, and what to do about it.
# What the daemon itself judges arrives as backupd_alarm; the others also go off when the daemon has stopped judging.
groups:
  - name: backupd
    rules:
"""


def prometheus_rules() -> str:
    """Return the text of `systemd/alerts.yml`, with one rule for each alert that has one."""
    return _HEAD + "".join(_rule(alert.rule) for alert in ALERTS if alert.rule is not None)


def _rule(rule: AlertRule) -> str:
    lasting = f"        for: {rule.lasting}\n" if rule.lasting else ""
    return (
        f"      - alert: {rule.name}\n        expr: {rule.expression}\n{lasting}"
        f"        labels: {{ severity: {rule.severity} }}\n"
        f'        annotations: {{ summary: "{rule.summary}", runbook: "backupd manual alerts" }}\n'
    )
