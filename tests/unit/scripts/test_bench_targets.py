"""What the bench says of its figures: ratios within each round, medians over them, verdicts, and reasons for gaps."""

import importlib

import pytest
from doubles.paths import ROOT

WHAT = "700 MB, 500 tenants: first / pipe"


@pytest.fixture
def modules(monkeypatch):
    """The bench's own modules, which find each other as `lib`."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return {name: importlib.import_module(f"lib.bench.{name}") for name in ("figures", "targets", "report")}


@pytest.fixture
def log(modules):
    return modules["figures"].Log(lambda _text: None)


@pytest.fixture
def judged(modules, log):
    def judge(*, full=True, chosen=("main",)):
        return {one.target.what: one for one in modules["targets"].judge(log, chosen, full=full)}

    return judge


def note(modules, log, contender, phase, number, **columns):
    log.figures.append(modules["figures"].Figure("main", contender, phase, number, **columns))


def test_a_ratio_is_the_median_of_the_rounds_ratios(modules, log, judged):
    """Not the ratio of medians, and not of figures from different rounds."""
    for number, (ours, theirs) in enumerate([(5, 10), (90, 100), (7, 100)], 1):
        note(modules, log, "backupd", "first", number, wall=ours)
        note(modules, log, "pipe", "first", number, wall=theirs)
    note(modules, log, "backupd", "first", 4, wall=1000)

    outcome = judged()[WHAT]

    assert (outcome.figure, outcome.rounds, outcome.reached) == (0.5, 3, True)


def test_a_target_is_missed_on_its_wrong_side(modules, log, judged):
    """Most targets are the most; throughput's are the least."""
    note(modules, log, "backupd", "first", 1, wall=2)
    note(modules, log, "pipe", "first", 1, wall=2)
    for contender, wall in (("backupd", 1), ("sftp", 1.4)):
        log.figures.append(modules["figures"].Figure("far-30", contender, "ship", 1, wall=wall))

    outcomes = judged()

    assert outcomes[WHAT].reached is False
    assert outcomes["round trip 30 ms: throughput / OpenSSH sftp"].figure == 1.4
    assert outcomes["round trip 30 ms: throughput / OpenSSH sftp"].reached is False


def test_memory_is_the_greatest_of_all_phases(modules, log, judged):
    """A restore that takes more than the backups counts."""
    for phase, memory in (("first", 100_000_000), ("second", 90_000_000), ("restore", 210_000_000)):
        note(modules, log, "backupd", phase, 1, memory=memory)

    outcome = judged()["memory: 700 MB, 500 tenants"]

    assert (outcome.figure, outcome.reached) == (210.0, False)


def test_smaller_databases_give_no_verdict(modules, log, judged):
    """A figure of another size says nothing of a target."""
    note(modules, log, "backupd", "first", 1, wall=1)
    note(modules, log, "pipe", "first", 1, wall=10)

    outcome = judged(full=False)[WHAT]

    assert (outcome.figure, outcome.reached) == (0.1, None)


def test_every_row_that_is_missing_says_why(modules, log, judged):
    """A scenario that failed, one that was not chosen, a program that is not there."""
    log.left_out["restic"] = "not installed: restic"
    log.failed["many"] = "RuntimeError: no space"

    outcomes = judged(chosen=("main", "many"))

    assert len(outcomes) == len(modules["targets"].TARGETS)
    assert outcomes["700 MB, 500 tenants: first / restic"].why == "restic: not installed: restic"
    assert outcomes["100 MB, 10,000 tenants: first / pipe"].why == "RuntimeError: no space"
    assert outcomes["backupd status, processor time"].why == "scenario start was not chosen"
    assert outcomes[WHAT].why == "no figure was taken"
    assert all(one.why and one.reached is None for one in outcomes.values())


def test_a_scenario_that_fails_is_noted_and_the_next_goes_on(log):
    """Its error is in the log; nobody else's figures are lost."""
    with log.scenario("far"):
        raise RuntimeError("the proxy\ndied")

    assert log.failed == {"far": "RuntimeError: the proxy died"}


def test_the_table_has_a_row_for_each_target(modules, log):
    """Figure, limit and verdict, or the reason why there is none."""
    note(modules, log, "backupd", "first", 1, wall=1)
    note(modules, log, "pipe", "first", 1, wall=10)
    outcomes = modules["targets"].judge(log, ["main"], full=True)

    rows = modules["report"].matrix_table(outcomes).rows

    assert len(rows) == len(modules["targets"].TARGETS)
    assert rows[0] == (WHAT, "≤ 0.95", "0.10", "reached (1 round)")
    assert all(row[3].startswith("not measured: ") for row in rows if not row[2])
