"""Checks between keys of the configuration: names that must exist, places that must be allowed, and advice.

The checks read the values as `tomllib` returned them, so that they also run when other parts of the file are wrong.
Values of a wrong type are skipped here, because the schema has already reported them.

A drill's target must be a server that nothing else here uses. Servers are compared as far as the text of connection
strings shows them; libpq reads them itself when they are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from backupd.config.faults import Finding
from backupd.config.schema import DEFAULT_CLASSES, Config, SftpStoreSection
from backupd.config.toml_lines import KeyPath
from backupd.model.text import did_you_mean


def cross_check(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield every contradiction between parts of the file."""
    stores = _tables(raw.get("stores"))
    classes = [*DEFAULT_CLASSES, *_tables(raw.get("classes"))]
    yield from _one_place_each(stores)
    yield from target_faults(raw)
    for name, region in _tables(raw.get("regions")).items():
        yield from _region_stores(("regions", name), region, stores)
        yield from _query(("regions", name), region)
        yield from _assertions(("regions", name), region)
        for label, database in _tables(region.get("databases")).items():
            path = ("regions", name, "databases", label)
            yield from _tenancy(path, database)
            yield from _classes(path, database, classes)


def advice(config: Config) -> Iterator[Finding]:
    """Yield what is allowed but could be better."""
    if len(config.recipients) < 2:
        yield (
            ("recipients",),
            "only one recipient",
            "If its identity is lost, so is every backup; add an escrow recipient.",
        )
    if not config.trust.signers:
        yield (
            ("trust", "signers"),
            "no trusted signers",
            "Verify and restore will believe anybody who signed the repository; list the writers' keys.",
        )
    if config.node.signing_key_file is None:
        yield (
            ("node", "signing_key_file"),
            "no signing key",
            "This machine can verify and restore, but not back up; `backupd key generate --signer` makes one.",
        )
    yield from _advice_on_deletion(config)
    for name, region in config.regions.items():
        promised = region.objectives
        if promised.approval is None and (promised.rpo, promised.rto, promised.drill_every) != (None, None, None):
            yield (
                ("regions", name, "objectives"),
                "objectives without an approval",
                "Reports repeat who approved them: write where that is kept as `approval`.",
            )


def _advice_on_deletion(config: Config) -> Iterator[Finding]:
    if config.node.tenant_key_file is None:
        yield (
            ("node", "tenant_key_file"),
            "no tenant key",
            "Backups and purges need one; `backupd key generate --tenant-key` makes it, the same for all machines.",
        )
    if config.keeper is not None and config.node.signing_key_file is not None:
        yield (
            ("keeper",),
            "this machine writes backups and removes them",
            "Who breaks into it can do both; give the keeper a machine and a credential of its own.",
        )
    for name, store in config.stores.items():
        if config.keeper is None and isinstance(store, SftpStoreSection) and store.keeper_key is not None:
            yield (
                ("stores", name, "keeper_key"),
                "names the keeper's credential, and this machine is no keeper",
                "Keep the credential that may remove away from here; only a machine with [keeper] uses it.",
            )


def _one_place_each(stores: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield each store that is at the same place as another: two names for one place would count as two copies."""
    seen: dict[tuple[object, ...], str] = {}
    for name, store in stores.items():
        place = tuple(repr(store.get(key)) for key in ("kind", "host", "port", "user", "path"))
        if place in seen:
            yield (
                ("stores", name),
                f"is the same place as stores.{seen[place]}",
                "Two names for one place are one copy.",
            )
        seen.setdefault(place, name)


def _region_stores(path: KeyPath, region: Mapping[str, Any], stores: Mapping[str, Any]) -> Iterator[Finding]:
    allowed = _strings(region.get("locations"))
    names = _strings(region.get("stores"))
    for index, name in enumerate(names):
        where = (*path, "stores", index)
        if name not in stores:
            yield where, f"no store is named {_named(name)}", did_you_mean(name, stores)
        elif name in names[:index]:
            yield where, f'names the store "{name}" twice', ""
        elif isinstance(location := stores[name].get("location"), str) and location not in allowed:
            yield (
                where,
                f"the store {_named(name)} is in {_named(location)}, where this region's data may not go",
                f"Allowed: {', '.join(allowed) or 'none'}. Add one to `locations` only if the promise says so.",
            )


def _query(path: KeyPath, region: Mapping[str, Any]) -> Iterator[Finding]:
    query = _tables(region.get("lifecycle")).get("query", {})
    label, known = query.get("database"), _tables(region.get("databases"))
    if isinstance(label, str) and label not in known:
        where = (*path, "lifecycle", "query", "database")
        yield where, f"this region has no database {_named(label)}", did_you_mean(label, known)


def _assertions(path: KeyPath, region: Mapping[str, Any]) -> Iterator[Finding]:
    known, given = _tables(region.get("databases")), region.get("assertions")
    seen: set[str] = set()
    for index, one in enumerate(given if isinstance(given, list) else []):
        label, name = (one.get("database"), one.get("name")) if isinstance(one, dict) else (None, None)
        where = (*path, "assertions", index)
        if isinstance(label, str) and label not in known:
            yield (*where, "database"), f"this region has no database {_named(label)}", did_you_mean(label, known)
        if isinstance(name, str):
            if name in seen:
                yield (*where, "name"), f"another assertion of this region is named {_named(name)}", ""
            seen.add(name)


def _tenancy(path: KeyPath, database: Mapping[str, Any]) -> Iterator[Finding]:
    tenancy = database.get("tenancy")
    if not isinstance(tenancy, dict):
        return
    kind = tenancy.get("kind")
    where = (*path, "tenancy")
    for key, owner in (
        ("column", "column"),
        ("table", "column"),
        ("schema_pattern", "schema"),
        ("database_pattern", "database"),
        ("without_databases", "database"),
    ):
        if key in tenancy and kind in ("column", "schema", "database", "none") and kind != owner:
            yield (*where, key), f'means nothing when kind is "{kind}"', f'It belongs to kind = "{owner}".'
        if key not in tenancy and kind == owner and key.endswith("_pattern"):
            yield where, f'kind = "{kind}" needs {key}', ""
    if kind == "column" and not {"column", "table"} & set(tenancy) and not _rules_name_columns(database):
        yield where, 'kind = "column" needs column or table', ""


def _rules_name_columns(database: Mapping[str, Any]) -> bool:
    rules = database.get("tables")
    return isinstance(rules, list) and any(isinstance(rule, dict) and "column" in rule for rule in rules)


def _classes(path: KeyPath, database: Mapping[str, Any], known: list[str]) -> Iterator[Finding]:
    tenancy = database.get("tenancy")
    named = [((*path, "tenancy", "default_class"), tenancy.get("default_class") if isinstance(tenancy, dict) else None)]
    rules = database.get("tables")
    for index, rule in enumerate(rules if isinstance(rules, list) else ()):
        named.append(((*path, "tables", index, "class"), rule.get("class") if isinstance(rule, dict) else None))
    for where, name in named:
        if isinstance(name, str) and name not in known:
            yield where, f"no class is named {_named(name)}", did_you_mean(name, known)


def _named(name: str) -> str:
    """Return the name in quotes; text too long or strange to be a name may be a secret, and is not repeated."""
    return f'"{name}"' if len(name) <= 63 and name.isprintable() else "that"


def _tables(value: object) -> dict[str, dict[str, Any]]:
    return {name: below for name, below in value.items() if isinstance(below, dict)} if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


MARK = "backupd_drill"
"""The database that marks a server as set aside for drills; `backupd.postgres` looks for it there."""
_HINT = "A drill needs a server that holds nothing else, and on it the database that marks it."


def target_faults(raw: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the faults of a drill's target: it is a server that a backup reads, or its database is not the mark."""
    drill = raw.get("drill")
    if not isinstance(drill, dict):
        return
    dsn, service = drill.get("target_dsn"), drill.get("target_service")
    if isinstance(dsn, str):
        if keywords(dsn).get("dbname", MARK) != MARK:
            yield ("drill", "target_dsn"), f'names another database than "{MARK}"', _HINT
        service = keywords(dsn).get("service", service)
    where = ("drill", "target_dsn" if isinstance(dsn, str) else "target_service")
    theirs = servers(dsn) if isinstance(dsn, str) else frozenset[tuple[str, str]]()
    for path, address in _used(raw):
        used = keywords(address)
        same = isinstance(service, str) and used.get("service") == service
        if same or theirs & servers(address):
            yield where, f"is the server of {path}, which is no place for a drill", _HINT


def _used(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the key path and connection string of every database in the file."""
    regions = raw.get("regions")
    for name, region in regions.items() if isinstance(regions, dict) else ():
        if not isinstance(region, dict):
            continue
        databases, lifecycle = region.get("databases"), region.get("lifecycle")
        query = lifecycle.get("query") if isinstance(lifecycle, dict) else None
        sections = (
            {f"databases.{label}": one for label, one in databases.items()} if isinstance(databases, dict) else {}
        )
        for where, section in {**sections, "lifecycle.query": query}.items():
            if isinstance(section, dict):
                dsn, service = section.get("dsn"), section.get("service")
                if isinstance(dsn, str) or isinstance(service, str):
                    yield f"regions.{name}.{where}", dsn if isinstance(dsn, str) else f"service={service}"


_PAIR = re.compile(r"([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)")
_PORT = "5432"
_HERE = ("", "localhost", "127.0.0.1", "::1")


def keywords(dsn: str) -> dict[str, str]:
    """Parse a connection string of either form into its parameters; those that cannot be read are left out."""
    if "://" in dsn.partition("=")[0]:
        return _of_uri(dsn)
    return {
        name: re.sub(r"\\(.)", r"\1", value.removeprefix("'").removesuffix("'")) for name, value in _PAIR.findall(dsn)
    }


def servers(dsn: str) -> frozenset[tuple[str, str]]:
    """Return every host that a connection string may reach, each with its port.

    All names of this machine count as one, the empty name. Returns nothing where only a service decides.
    """
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
