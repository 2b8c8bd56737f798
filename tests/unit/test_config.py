"""The configuration: the example loads, and whatever is wrong is told with key path and line, all at once."""

import importlib.resources
from datetime import timedelta

import pytest

from backupd.config.faults import ConfigFaultsError
from backupd.config.load import advice, config_path, load, parse
from backupd.errors import ConfigError
from backupd.model.tenancy import ClassPolicy, TenancyKind

EXAMPLE = importlib.resources.files("backupd.config").joinpath("example.toml").read_text("utf-8")


def faults_of(text):
    with pytest.raises(ConfigFaultsError) as caught:
        parse(text, "example.toml")
    return caught.value.faults


def changed(old, new):
    assert old in EXAMPLE, f"the example no longer has {old!r}"
    return EXAMPLE.replace(old, new, 1)


def line_of(text, piece):
    return text[: text.index(piece)].count("\n") + 1


def test_the_example_loads():
    """What `config example` prints is a valid configuration that shows every kind of tenancy and store."""
    config = parse(EXAMPLE, "example.toml")

    app = config.regions["be"].databases["app"]
    assert [database.tenancy.kind for database in config.regions["be"].databases.values()] == [
        TenancyKind.COLUMN,
        TenancyKind.SCHEMA,
        TenancyKind.DATABASE,
    ]
    assert [store.kind for store in config.stores.values()] == ["sftp", "directory"]
    assert [rule.data_class for rule in app.tables] == ["account", "session", "support", None, None]
    assert timedelta(days=28) == config.regions["be"].generation


def test_the_example_deserves_no_advice():
    """The example does what the advice asks for."""
    assert advice(parse(EXAMPLE, "example.toml"), EXAMPLE) == []


def test_the_five_classes_exist_without_being_written():
    """Operation and session data are never backed up unless somebody asks for it."""
    text = EXAMPLE[: EXAMPLE.index("[classes.account]")] + '[classes.session]\nbackup = "standard"\n'

    assert parse(text, "x").policies() == {
        "account": ClassPolicy.STANDARD,
        "operation": ClassPolicy.NEVER,
        "uploaded": ClassPolicy.STANDARD,
        "session": ClassPolicy.STANDARD,
        "support": ClassPolicy.STANDARD,
    }


def test_the_values_are_frozen():
    """Nobody changes the configuration of a running program."""
    config = parse(EXAMPLE, "example.toml")

    with pytest.raises(ValueError, match="frozen"):
        config.node.workers = 3


# What is replaced, by what, and the fault: key path (DB is regions.be.databases), and a piece of its message.
FAULTS = [
    ('host = "zh', 'hots = "zh', "stores.zurich.hots", "unknown key"),
    ("workers = 2", "worker = 2", "node.worker", "unknown key"),
    ("[trust]\n", "[trusts]\n", "trusts", "unknown key"),
    ("shared = true", "sharde = true", "DB.app.tables[4].sharde", "unknown key"),
    ("workers = 2", 'workers = "2"', "node.workers", "whole number"),
    ("workers = 2", "workers = 0", "node.workers", "at least 1"),
    ("workers = 2", "workers = 2.5", "node.workers", "whole number"),
    ("compression_level = 3", "compression_level = 22", "node.compression_level", "at most 19"),
    ('spool_size = "2GiB"', "spool_size = 2147483648", "node.spool_size", "in quotes"),
    ('spool_size = "2GiB"', 'spool_size = "2"', "node.spool_size", "2GiB, 500MB"),
    ('spool_size = "2GiB"', 'spool_size = "1MiB"', "node.spool_size", "at least 64MiB"),
    ('lock_timeout = "30s"', 'lock_timeout = "soon"', "node.lock_timeout", "a number and a unit"),
    ('generation = "28d"', 'generation = "2h"', "regions.be.generation", "at least 1d"),
    ('generation = "28d"', 'generation = "28x"', "regions.be.generation", "unit of time"),
    ('bandwidth = "unlimited"', 'bandwidth = "fast"', "stores.zurich.bandwidth", "20MB/s"),
    ('state_dir = "/var', 'state_dir = "var', "node.state_dir", "absolute path"),
    ('state_dir = "/var/lib', 'state_dir = "/var/../lib', "node.state_dir", "without `..`"),
    ('name = "node-1"', 'name = "Node 1"', "node.name", "a-z 0-9"),
    ("[regions.be]", "[regions.Belgium_1]", "regions.Belgium_1", "a-z 0-9 -"),
    ("port = 22\n", "port = 70000\n", "stores.zurich.port", "at most 65535"),
    ('kind = "sftp"', 'kind = "s3"', "stores.zurich.kind", "'sftp' or 'directory'"),
    ('kind = "sftp"', "", "stores.zurich.kind", "is required"),
    ('user = "zh1234"\n', "", "stores.zurich.user", "is required"),
    ("host_keys = [", "host_keys = []\n#", "stores.zurich.host_keys", "must not be empty"),
    ('host_keys = ["ssh-ed25519 AAAA', 'host_keys = ["ssh-ed25519 BBBB', "stores.zurich.host_keys[0]", "ssh-keyscan"),
    ('host_keys = ["ssh-ed25519', 'host_keys = ["ssh-dss', "stores.zurich.host_keys[0]", "key type"),
    ('path = "backupd"', 'path = "../other"', "stores.zurich.path", "without `..`"),
    ('path = "/srv/backupd"', 'path = "srv/backupd"', "stores.cellar.path", "absolute path"),
    ('key = "credential:store.key"', 'key = "credential:../key"', "stores.zurich.key", "credential name"),
    ('key = "credential:store.key"', 'key = "store.key"', "stores.zurich.key", "credential:NAME"),
    ('location = "zurich"', 'location = "moon"', "regions.be.stores[0]", "may not go"),
    ('stores = ["zurich",', 'stores = ["zurrich",', "regions.be.stores[0]", "no store is named"),
    ('"cellar"]\ngen', '"zurich"]\ngen', "regions.be.stores[1]", "twice"),
    ('stores = ["zurich", "cellar"]', "stores = []", "regions.be.stores", "must not be empty"),
    ('locations = ["brussels", "zurich"]', 'locations = "zurich"', "regions.be.locations", "must be a list"),
    ('class = "session"', 'class = "sesion"', "DB.app.tables[1].class", "no class"),
    ('default_class = "uploaded" }', 'default_class = "x" }', "DB.dedicated.tenancy.default_class", "no class"),
    ("(?P<tenant>[0-9]+)", "(?P<tenat>[0-9]+)", "DB.app.tenancy.role_pattern", "group named tenant"),
    ("(?P<tenant>[0-9]+)", "(?P<tenant>[0-9+)", "DB.app.tenancy.role_pattern", "regular expression"),
    ('kind = "column" ', 'kind = "row" ', "DB.app.tenancy.kind", "'column', 'schema'"),
    ('kind = "column" ', 'kind = "none" ', "DB.app.tenancy.column", "means nothing"),
    (", schema_pattern = 'tenant_(?P<tenant>[a-z0-9]+)'", "", "DB.analytics.tenancy", "needs schema_pattern"),
    ('service = "analytics"', 'service = "a"\ndsn = "dbname=a"', "DB.analytics", "exactly one of dsn"),
    ('service = "analytics"', "", "DB.analytics", "exactly one of dsn"),
    ('dsn = "host=db2.example', 'dsn = "db2.example', "DB.dedicated.dsn", "connection string"),
    ('match = ["public.ticket"]', 'match = ["ticket"]', "DB.app.tables[2].match[0]", "schema.table"),
    ('match = ["public.ticket"]', "match = []", "DB.app.tables[2].match", "must not be empty"),
    ("shared = true", 'shared = true\ncolumn = "x"', "DB.app.tables[4]", "more than one of"),
    ('null_tenant = "shared"', 'null_tenant = "skip"', "DB.app.tables[2].null_tenant", "'refuse' or 'shared'"),
    ('unclassified = "refuse"', 'unclassified = "ignore"', "DB.app.tenancy.unclassified", "'refuse' or"),
    ('backup = "standard"', 'backup = "sometimes"', "classes.account.backup", "'standard' or 'never'"),
    ('signers = ["3b6a', 'signers = ["3B6A', "trust.signers[0]", "64 hex"),
    ('"/etc/backupd/escrow.recipient"', '"escrow.recipient"', "recipients[1]", "absolute path"),
    ("recipients = [", "recipients = []\nrest = [", "recipients", "must not be empty"),
    ("[node]", "node = 3\n[other]", "node", "must be a table"),
    ("[stores.cellar]", "[stores]\nplain = 1\n[stores.cellar]", "stores.plain", "must be a table"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "key", "message"), FAULTS, ids=[f"{f[2]}: {f[3]}" for f in FAULTS])
def test_a_fault_is_told_with_key_and_line(old, new, key, message):
    """Every kind of fault names its key path, and the line where the key or its table stands."""
    text = changed(old, new)
    key = key.replace("DB.", "regions.be.databases.")

    found = [fault for fault in faults_of(text) if fault.key == key]

    assert len(found) == 1
    assert message in found[0].message
    last = key.rpartition(".")[2].partition("[")[0]
    assert last in text.splitlines()[found[0].line - 1] or "is required" in message or key == "recipients[1]"


def test_all_faults_are_told_at_once_in_the_order_of_the_file():
    """One look at the report is enough to mend everything, whatever kinds of fault there are."""
    text = EXAMPLE
    for old, new in [
        ("workers = 2", "worker = 2"),
        ('spool_size = "2GiB"', 'spool_size = "2"'),
        ('stores = ["zurich",', 'stores = ["zurrich",'),
        ('class = "session"', 'class = "sesion"'),
        ("dbname=app user=backupd", "dbname=app password=hunter2"),
    ]:
        text = text.replace(old, new, 1)

    faults = faults_of(text)

    assert [
        ("node.spool_size", line_of(text, 'spool_size = "2"')),
        ("node.worker", line_of(text, "worker = 2")),
        ("regions.be.stores[0]", line_of(text, "zurrich")),
        ("regions.be.databases.app.dsn", line_of(text, "hunter2")),
        ("regions.be.databases.app.tables[1].class", line_of(text, "sesion")),
    ] == [(fault.key, fault.line) for fault in faults]


def test_an_unknown_key_comes_with_the_nearest_known_one():
    """A slip of the pen is recognised."""
    (fault,) = [fault for fault in faults_of(changed("workers = 2", "worker = 2")) if fault.key == "node.worker"]

    assert fault.hint == 'Did you mean "workers"?'


@pytest.mark.parametrize(
    "text",
    ['[node]\nname = "a', "a = 1\na = 2", "[a]\n[a]", "x = [1, 2", "\x00", "= 3"],
)
def test_what_is_not_toml_is_a_fault_with_a_line(text):
    """A syntax error is one fault, with the line where TOML knows it."""
    (fault,) = faults_of(text)

    assert fault.message.startswith("is not TOML: ")


def test_a_file_that_is_missing_binary_or_huge_is_refused(tmp_path):
    """Reading fails with the file's name, and a hint where one helps."""
    binary, huge = tmp_path / "binary", tmp_path / "huge"
    binary.write_bytes(b"\xff\xfe")
    huge.write_bytes(b"#" * (5 << 20))

    for path, message in [
        (tmp_path / "none", "no configuration at"),
        (binary, "not UTF-8"),
        (huge, "larger than"),
        (tmp_path, "cannot read"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load(path)


def test_the_option_goes_before_the_environment_and_that_before_the_packaged_place(tmp_path):
    """--config, else BACKUPD_CONFIG, else /etc/backupd/backupd.toml."""
    places = [
        config_path(tmp_path, {"BACKUPD_CONFIG": "/b"}),
        config_path(None, {"BACKUPD_CONFIG": "/b"}),
        config_path(None, {}),
    ]

    assert [str(tmp_path), "/b", "/etc/backupd/backupd.toml"] == [str(place) for place in places]


def test_lines_hold_in_a_file_from_another_system(tmp_path):
    """Carriage returns change neither values nor lines."""
    file = tmp_path / "config.toml"
    file.write_bytes(changed("workers = 2", "worker = 2").replace("\n", "\r\n").encode())

    with pytest.raises(ConfigFaultsError) as caught:
        load(file)

    assert [line_of(EXAMPLE, "workers = 2")] == [fault.line for fault in caught.value.faults]


def test_advice_names_what_is_risky_but_allowed():
    """One recipient, nobody trusted and no signing key load, and are pointed out."""
    text = EXAMPLE
    for old, new in [
        ('  "/etc/backupd/escrow.recipient",\n', ""),
        ("signers = [", "signers = []\n#"),
        ("signing_key_file =", "#signing_key_file ="),
    ]:
        text = text.replace(old, new, 1)

    keys = [fault.key for fault in advice(parse(text, "x"), text)]

    assert keys == ["recipients", "node.signing_key_file", "trust.signers"]
