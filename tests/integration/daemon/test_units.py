"""The units as systemd itself takes them: clean, confined, each with its own rights; and the program works inside."""

from __future__ import annotations

import json
import re

import pytest
from fix_systemd import CREDENTIALS, PASSPHRASE, UNITS, Installed

pytestmark = pytest.mark.timeout(900)

MOST_EXPOSED = 1.5
MOST_EXPOSED_DRILL = 2.0
"""What a scratch server is shut in with, namespaces and mounts, systemd counts as exposure of the unit."""
PROBE = """
[Service]
Type=oneshot
ExecStart=
ExecStart=/bin/sh {script}
Restart=no
WatchdogSec=0
StandardOutput=truncate:/run/probed
StandardError=truncate:/run/probed
"""
WRITABLE = """
for folder in / /etc /etc/backupd /opt/backupd /usr/local/bin /home /root /run /var /var/log /var/lib /srv /srv/open; do
  (: >"$folder/probe") 2>/dev/null && echo "$folder"
done
for folder in /tmp /var/tmp /var/lib/backupd /var/spool/backupd /srv/backupd; do
  (: >"$folder/probe") 2>/dev/null || echo "not $folder"
done
"""
CONFINED = """
grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapEff):' /proc/self/status | tr -d '\\t'
ls /proc | grep -cvE '^([0-9]+|self|thread-self)$'
ps -eo user= | sort -u
ls /home /root 2>/dev/null | grep -v :
unshare --user --map-current-user --net -- true 2>/dev/null && echo "can leave the network"
"""

PROGRAMS = {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr"}
SHUT_IN = """
/opt/backupd/bin/python -c '
import glob, os, subprocess
from backupd.postgres.scratch.jail import Jailed
from backupd.postgres.scratch.programs import runner
own = "/var/lib/backupd-drill/own"
os.mkdir(own)
here = os.environ["CREDENTIALS_DIRECTORY"]
script = f"( cat {here}/* /etc/backupd/backupd.toml; ls -A / /etc /var /var/lib /var/lib/* ) >{own}/seen 2>&1; "
script += "kill -9 -1; setsid sleep 98765 & sleep 0.2"
found = runner(None)
beside = subprocess.Popen(["sleep", "600"])
subprocess.run(["cat", f"{here}/backupd_drill.identity"], check=True, stdout=subprocess.DEVNULL)
print(found.run(Jailed(["/bin/sh", "-c", script], found.user, found.group, [], [own], 1 << 30), 60))
print("reached", beside.poll())
beside.kill()
running = [open(one, "rb").read() for one in glob.glob("/proc/[0-9]*/cmdline")]
print("outlived", sum(one.startswith(b"sleep\\x0098765") for one in running), b"backupd" in b"".join(running))
print(open(f"{own}/seen").read())
'
rm -r /var/lib/backupd-drill/own
"""


def probed(booted: Installed, unit: str, script: str) -> list[str]:
    """What a script prints that runs in the unit's place, with all else that the unit says."""
    machine = booted.machine
    machine.path("/usr/local/bin/probe").write_text(f"{script}\nexit 0\n")
    machine.path("/usr/local/bin/probe").chmod(0o755)
    folder = machine.path(f"/run/systemd/system/{unit}.d")
    folder.mkdir(parents=True)
    try:
        (folder / "probe.conf").write_text(PROBE.format(script="/usr/local/bin/probe"))
        machine.run("systemctl", "daemon-reload")
        done = machine.run("systemctl", "start", unit, check=False)
        assert done.returncode == 0, done.stderr.decode() + machine.journal(unit)
        return machine.path("/run/probed").read_text().splitlines()
    finally:
        (folder / "probe.conf").unlink()
        folder.rmdir()
        machine.run("systemctl", "daemon-reload")


def test_systemd_has_nothing_to_say_of_the_units(booted: Installed) -> None:
    """`systemd-analyze verify` is silent about each of them, where they are installed."""
    for unit in UNITS:
        done = booted.machine.run("systemd-analyze", "verify", unit)
        assert (done.stdout + done.stderr).decode() == ""


@pytest.mark.parametrize("unit", [unit.replace("@be", "@") for unit in UNITS])
def test_no_unit_is_exposed(booted: Installed, unit: str) -> None:
    """`systemd-analyze security` gives each at most 1.5 of 10, and 2.0 to the one that shuts servers in."""
    said = booted.machine.text(
        "systemd-analyze", "security", "--offline=true", "--no-pager", f"/usr/local/lib/systemd/system/{unit}"
    )

    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)

    assert found is not None
    assert float(found[1]) <= (MOST_EXPOSED_DRILL if "drill" in unit else MOST_EXPOSED)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_writes_into_its_own_folders_only(booted: Installed, unit: str) -> None:
    """Elsewhere it may not, even where everybody may; what it writes under the configured names is its own."""
    for everybodys in ("/srv/open", "/srv/backupd"):
        booted.machine.path(everybodys).mkdir(exist_ok=True)
        booted.machine.path(everybodys).chmod(0o777)

    assert probed(booted, unit, WRITABLE) == []

    role = unit.removesuffix(".service").partition("-")[2]
    own = f"/var/lib/backupd-{role}/state" if role else "/var/lib/backupd"
    assert booted.machine.path(f"{own}/probe").exists()
    for other in ("/var/lib/backupd", "/var/lib/backupd-keeper/state", "/var/lib/backupd-drill/state"):
        assert other == own or not booted.machine.path(f"{other}/probe").exists()
    for left in (f"{own}/probe", "/srv/backupd/probe"):
        booted.machine.path(left).unlink()


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_sees_its_own_credentials_only(booted: Installed, unit: str) -> None:
    """A file in its folder under /etc/backupd/credentials is a credential; no other unit's can be read."""
    role = unit.removesuffix(".service").partition("-")[2] or "node"

    found = probed(
        booted,
        unit,
        'cd "$CREDENTIALS_DIRECTORY" && for file in *; do test -s "$file" && echo "$file"; done; ls /run/credentials;'
        " cat /etc/backupd/credentials/*/* /etc/backupd/made/* 2>/dev/null",
    )

    assert found == [*sorted(f"backupd_{name}" for name in CREDENTIALS[role]), unit]


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_confined(booted: Installed, unit: str) -> None:
    """No capability, filtered system calls, nobody else's processes or homes; only drills make an empty network."""
    user = unit.removesuffix(".service") if unit in ("backupd-keeper.service", "backupd-drill.service") else "backupd"
    nothing = "0000000000000000"

    found = probed(booted, unit, CONFINED)

    assert found == [
        *(f"CapEff:{nothing}", f"CapBnd:{nothing}", "NoNewPrivs:1", "Seccomp:2", "0", user),
        *(["can leave the network"] if unit == "backupd-drill.service" else []),
    ]


def test_a_server_of_the_drills_unit_sees_nothing_of_it(booted: Installed) -> None:
    """Its process has the unit's user, who can read the credentials, but sees neither them nor any state; it reaches no
    process of the unit, and nothing that it started outlives it.
    """
    found = probed(booted, "backupd-drill.service", SHUT_IN)

    assert found[:3] == ["(0, '')", "reached None", "outlived 0 True"]
    assert [line for line in found if "No such file" in line or "cannot" in line]
    seen = " ".join(found)
    for secret in ("BEGIN", "AGE", PASSPHRASE, "signing_key_file", "credential:"):
        assert secret not in seen
    listed = "\n".join(found[found.index("/:") :]).split("\n\n")
    shown = dict(one.split(":\n") for one in listed)
    assert set(shown["/"].split()) - PROGRAMS == {"dev", "etc", "var"}
    assert set(shown["/etc"].split()) <= {"alternatives", "group", "ld.so.cache", "passwd"}
    assert set(shown["/var"].split()) <= {"cache", "lib"}
    assert shown["/var/lib"].split() == ["backupd-drill"]
    assert shown["/var/lib/backupd-drill"].split() == ["own"]


@pytest.mark.longest
def test_the_program_works_as_confined_as_its_units(booted: Installed) -> None:
    """From init to drill, each command by the role whose it is, with that unit's user, credentials and restrictions."""
    assert "append_only yes" in booted.as_unit("node", "init", "be")
    assert json.loads(booted.as_unit("node", "backup", "be", "--json"))
    assert "clean" in booted.as_unit("node", "verify", "be", "--read-data", "100%")
    assert "keep " in booted.as_unit("keeper", "expire", "be")
    assert "0 purges started" in booted.as_unit("keeper", "purge", "be")
    assert "PASS" in booted.as_unit("drill", "drill", "be")

    assert list(booted.machine.path("/var/lib/backupd-drill").glob("backupd-drill-*")) == []
    written = booted.machine.text("find", "/var/lib/backupd", "/var/spool/backupd", "!", "-user", "backupd")
    assert written == ""


def test_a_writer_cannot_do_a_keepers_work(booted: Installed) -> None:
    """The keeper's key is not among the writer's credentials: what it asks for is refused as such."""
    done = booted.machine.run("backupd-as", "node", "expire", "be", check=False)

    assert done.returncode == 3
    assert b"keeper.key" in done.stderr
