"""Ask a service of advisories about every package of requirements.lock, and say plainly when it did not answer."""

from __future__ import annotations

import json
import re
import sys
import urllib.request

from scripts.lib import locked

SERVICE = "https://api.osv.dev/v1/querybatch"
NOTHING_KNOWN, VULNERABLE, UNKNOWN = 0, 1, 3
_TIMEOUT = 30.0


def versions(lock: dict[str, locked.Locked]) -> dict[str, str]:
    """Return the version of each locked package."""
    found = {name: re.match(r"[\w.-]+==([^\s;]+)", package.text) for name, package in lock.items()}
    return {name: match[1] for name, match in sorted(found.items()) if match}


def advisories(packages: dict[str, str], service: str) -> dict[str, list[str]]:
    """Return the ids of the advisories about these packages, where there are any.

    Raises OSError when the service cannot be reached, and ValueError when its answer is not about these packages.
    """
    queries = [
        {"package": {"ecosystem": "PyPI", "name": name}, "version": version} for name, version in packages.items()
    ]
    body = json.dumps({"queries": queries}).encode()
    request = urllib.request.Request(service, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        results = json.loads(answer.read())
    results = results.get("results") if isinstance(results, dict) else None
    if not isinstance(results, list) or len(results) != len(packages):
        raise ValueError("the answer is not about these packages")
    named = zip(packages, results, strict=True)
    return {name: [one["id"] for one in found["vulns"]] for name, found in named if found and found.get("vulns")}


def main(arguments: list[str]) -> int:
    """Print what is known of the locked packages; the exit status says whether that is anything."""
    service = arguments[0] if arguments else SERVICE
    packages = versions(locked.read_lock((locked.ROOT / "requirements.lock").read_text()))
    try:
        found = advisories(packages, service)
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"NOT VERIFIED: {service} did not answer ({error}), so nothing is known of {len(packages)} packages.")
        print("That is no good news. Run it where the service can be reached, or name one that can: scripts/audit URL")
        return UNKNOWN
    for name, ids in found.items():
        print(f"{name} {packages[name]}: {', '.join(ids)}")
    print(f"{len(packages)} packages, {len(found)} with advisories, by {service}")
    return VULNERABLE if found else NOTHING_KNOWN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
