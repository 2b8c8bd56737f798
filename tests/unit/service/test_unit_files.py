"""The units of systemd as files: what shuts each of them in, and in what they differ."""

from __future__ import annotations

import pytest
from doubles.paths import ROOT

UNITS = ("backupd.service", "backupd@.service", "backupd-keeper.service", "backupd-drill.service")
SHUT_IN = """
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
UMask=0077
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateUsers=yes
PrivateMounts=yes
PrivateIPC=yes
RemoveIPC=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
ProcSubset=pid
KeyringMode=private
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
StateDirectoryMode=0700
LimitCORE=0
NotifyAccess=main
""".strip().splitlines()
"""Each of these is in every unit, and nowhere taken back. Most cannot be seen by what a unit may do, as another one
forbids the same: but with that one gone, too, nothing would be left."""
OWN = {
    "backupd.service": ("RestrictNamespaces=yes",),
    "backupd@.service": ("RestrictNamespaces=yes",),
    "backupd-keeper.service": ("RestrictNamespaces=yes",),
    "backupd-drill.service": (
        "RestrictNamespaces=user mnt pid net ipc",
        "SystemCallFilter=mount umount2 pivot_root mount_setattr capset",
    ),
}
"""What namespaces and calls each has: drills alone shut servers in."""


def settings(unit: str) -> list[str]:
    lines = (ROOT / "systemd" / unit).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "["))]


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_is_shut_in_by_all_of_it(unit: str) -> None:
    found = settings(unit)
    names = {line.partition("=")[0] for line in (*SHUT_IN, *OWN[unit])}
    assert sorted(line for line in found if line.partition("=")[0] in names) == sorted((*SHUT_IN, *OWN[unit]))


def test_no_two_roles_share_a_user_a_credential_or_a_folder() -> None:
    """A keeper or a drill beside a node is reached by nothing that the node's user may do."""
    for name in ("User", "Group", "LoadCredential", "StateDirectory"):
        said = {unit: [line for line in settings(unit) if line.startswith(f"{name}=")] for unit in UNITS}
        assert all(len(lines) == 1 for lines in said.values()), said
        assert said["backupd.service"] == said["backupd@.service"]
        assert len({lines[0] for lines in said.values()}) == 3, said
