"""Which servers a connection string leads to, as far as its text tells; libpq's own reading comes when it is used."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

_PAIR = re.compile(r"([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)")
_PORT = "5432"
_HERE = ("", "localhost", "127.0.0.1", "::1")


def keywords(dsn: str) -> dict[str, str]:
    """The parameters of a connection string, either form; those that cannot be read are left out."""
    if "://" in dsn.partition("=")[0]:
        return _of_uri(dsn)
    return {
        name: re.sub(r"\\(.)", r"\1", value.removeprefix("'").removesuffix("'")) for name, value in _PAIR.findall(dsn)
    }


def servers(dsn: str) -> frozenset[tuple[str, str]]:
    """Every host it may reach, with its port. All words for this machine are one; nothing where a service decides."""
    given = keywords(dsn)
    if "service" in given and not given.keys() & {"host", "hostaddr", "port"}:
        return frozenset()
    hosts = [name for key in ("host", "hostaddr") if key in given for name in given[key].split(",")] or [""]
    ports = given.get("port", _PORT).split(",")
    count = max(1, len(given.get("host", given.get("hostaddr", "")).split(",")))
    ports += ports[-1:] * (count - len(ports))
    return frozenset(
        ("" if host.lower() in _HERE else host.lower(), ports[place % count] or _PORT)
        for place, host in enumerate(hosts)
    )


def _of_uri(dsn: str) -> dict[str, str]:
    try:
        parts = urlsplit(dsn)
        given = dict(parse_qsl(parts.query))
    except ValueError:
        return {}
    hosts, ports = [], []
    for one in parts.netloc.rpartition("@")[2].split(","):
        found = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::([0-9]*))?", one)
        hosts.append(unquote(found[1].strip("[]")) if found else one)
        ports.append((found[2] if found else None) or _PORT)
    named = {"dbname": unquote(parts.path.removeprefix("/"))} if len(parts.path) > 1 else {}
    return {"host": ",".join(hosts), "port": ",".join(ports), **named, **given}
