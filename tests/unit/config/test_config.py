"""The example configuration loads, and each fault is reported with key path and line, all at once."""

import re
from datetime import timedelta

import pytest
from doubles.samples.example_config import EXAMPLE

from backupd.config.document import ConfigDocument, ConfigPart
from backupd.config.faults import ConfigFaultsError, spell
from backupd.config.files import file_findings
from backupd.config.load import advice, config_path, load, parse
from backupd.config.redact import redacted
from backupd.config.secrets import FileRef
from backupd.errors import ConfigError
from backupd.model.tenancy import ClassPolicy, TenancyKind

WHOLE = re.sub(r"^# (?=\[\[?[a-z]+\]|[a-z_]+ += )", "", EXAMPLE, flags=re.MULTILINE)
"""With every key that the example shows in a comment."""


def faults_of(text):
    with pytest.raises(ConfigFaultsError) as caught:
        parse(text, "example.toml")
    return caught.value.faults


def changed(old, new):
    assert old in WHOLE, f"the example no longer has {old!r}"
    return WHOLE.replace(old, new, 1)


def between(text, start, end):
    return text[text.index(start) : text.index(end)]


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


def advice_on(text):
    """The advice about a configuration of one file."""
    return advice(parse(text, "x"), ConfigDocument("x", (ConfigPart("x", text),)))


def test_the_example_deserves_no_advice():
    """The example does what the advice asks for."""
    assert advice_on(EXAMPLE) == []


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


def test_a_class_keeps_its_policy_when_only_its_dates_are_written():
    """A maximum age for session data does not put that data into backups; a new class is backed up."""
    config = parse(EXAMPLE + '[classes.extra]\nclock = "own"\n[classes.cache]\nbackup = "never"\n', "x")
    text = EXAMPLE.replace('[classes.session]\nbackup = "never"', '[classes.session]\nmax_age = "30d"')

    assert parse(text, "x").policies()["session"] == ClassPolicy.NEVER
    assert parse(text, "x").max_ages() == {"session": timedelta(days=30), "support": timedelta(days=60)}
    assert (config.policies()["extra"], config.policies()["cache"]) == (ClassPolicy.STANDARD, ClassPolicy.NEVER)
    assert config.own_clocks() == {"extra"}


def test_every_role_has_its_credential():
    """The keeper logs in as itself where it can, and as the writer where it has nothing of its own."""
    alone, apart = parse(EXAMPLE, "x").stores["zurich"], parse(WHOLE, "x").stores["zurich"]

    assert alone.credential("writer") == alone.credential("keeper") == ("zh1234", FileRef("credential:store.key"))
    assert apart.credential("writer") == ("zh1234", FileRef("credential:store.key"))
    assert apart.credential("keeper") == ("zh1234-keeper", FileRef("credential:keeper-store.key"))


def test_who_hands_in_does_not_take():
    """Each role has its path; ingest without a keeper's own credential is a fault: nothing would be enforced."""
    apart = parse(WHOLE, "x").stores["zurich"]
    assert (apart.ingest, apart.path_of("writer"), apart.path_of("keeper")) == (True, "backupd", "node1/backupd")
    assert parse(EXAMPLE, "x").stores["zurich"].path_of("keeper") == "backupd"

    same = EXAMPLE.replace("# ingest = true", "ingest = true")
    (fault,) = faults_of(same)
    assert fault.key == "stores.zurich"
    assert "who hands in must not take" in fault.message


def test_declared_copies_are_a_regions_or_everybodys():
    """Each with the longest that one of them lives."""
    config = parse(WHOLE + '[[copies]]\nname = "replica"\nkeep = "2d"\n', "x")
    assert config.copies_of("be") == {"tape": timedelta(days=30), "replica": timedelta(days=2)}
    assert config.copies_of("nl") == {"replica": timedelta(days=2)}


def test_the_ledger_is_the_keepers_or_else_the_signers():
    """Who lists keepers believes no writer about the ledger."""
    apart = EXAMPLE.replace("keepers = []", f'keepers = ["{"ab" * 32}"]')

    assert parse(EXAMPLE, "x").trust.ledger == parse(EXAMPLE, "x").trust.signers != ()
    assert parse(apart, "x").trust.ledger == ("ab" * 32,)


def test_a_region_without_a_word_on_deletion_has_the_example_s_rules():
    """What the example says of retention and lifecycle is what holds when nothing is said."""
    silent = EXAMPLE.replace(between(EXAMPLE, "[regions.be.retention]", "[regions.be.lifecycle.query]"), "")

    said, unsaid = (parse(text, "x").regions["be"] for text in (EXAMPLE, silent))

    assert (said.retention, said.lifecycle) == (unsaid.retention, unsaid.lifecycle)


def test_a_query_may_end_like_a_statement():
    """The last semicolon is dropped, and WITH is as good as SELECT, in any case and over several lines."""
    text = changed('"SELECT id AS tenant', '"""\n  with t as (select 1) SELECT id AS tenant').replace(
        'FROM public.tenant"', 'FROM public.tenant;\n"""'
    )

    sql = parse(text, "x").regions["be"].lifecycle.query.sql

    assert sql.startswith("with t as")
    assert sql.endswith("FROM public.tenant")


def test_a_query_s_own_connection_is_shown_without_its_rest():
    """What is hidden of a database's connection string is hidden of the query's."""
    text = changed('database = "app"', 'dsn = "host=h dbname=d options=-cx=y"\npassfile = "/etc/pgpass"')

    query = redacted(parse(text, "x"))["regions"]["be"]["lifecycle"]["query"]

    assert query["dsn"] == "host=h dbname=d options=…"
    assert query["passfile"] == "/etc/pgpass"


def test_every_secret_file_is_looked_at_where_it_is_used(tmp_path):
    """The tenant's key and the query's passfile everywhere, the keeper's keys on a keeper only."""
    text = changed('database = "app"', f'dsn = "dbname=d"\npassfile = "{tmp_path}/none"')
    text = text.replace("credential:", f"{tmp_path}/")
    no_keeper = parse(text.replace(between(text, "[keeper]", "# Places for"), ""), "x")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    looked = {spell(path) for path, *_ in file_findings(parse(text, "x"), environ)}

    assert {"node.tenant_key_file", "keeper.signing_key_file", "stores.zurich.keeper_key"} <= looked
    assert "regions.be.lifecycle.query.passfile" in looked
    assert not any("keeper" in place for place in {spell(path) for path, *_ in file_findings(no_keeper, environ)})


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
    ('signers = ["1363a', 'signers = ["1363A', "trust.signers[0]", "64 hex"),
    ('"/etc/backupd/escrow.recipient"', '"escrow.recipient"', "recipients[1]", "absolute path"),
    ("recipients = [", "recipients = []\nrest = [", "recipients", "must not be empty"),
    ("[node]", "node = 3\n[other]", "node", "must be a table"),
    ("most_tenants = 10 ", "most_tenants = 0 ", "keeper.most_tenants", "at least 1"),
    ('clock_tolerance = "5m"', 'clock_tolerance = "2h"', "keeper.clock_tolerance", "at most 1h"),
    ("most_snapshots = 200", "most_snapshot = 200", "keeper.most_snapshot", "unknown key"),
    ('signing_key_file = "credential:keeper.key"', "", "keeper.signing_key_file", "is required"),
    ("keepers = []", 'keepers = ["?"]', "trust.keepers[0]", "64 hex"),
    ('keeper_user = "zh1234-keeper"', 'keeper_user = "a b"', "stores.zurich.keeper_user", "user's name"),
    ("daily = 30", "dayly = 30", "regions.be.retention.dayly", "unknown key"),
    ("daily = 30", "daily = -1", "regions.be.retention.daily", "at least 0"),
    ("keep_minimum = 3", "keep_minimum = 0", "regions.be.retention.keep_minimum", "at least 1"),
    ('max_age = "90d"', 'max_age = "13d"', "regions.be.retention", "keep_within (14d) is longer than max_age (13d)"),
    ('window = "180d"', 'windows = "180d"', "regions.be.lifecycle.windows", "unknown key"),
    ('store_snapshots = "8d"', 'store_snapshots = "141d"', "regions.be.lifecycle",
     "cannot be kept: window 180d < grace 30d + expiry_gap 2d + store_snapshots 141d + clock_tolerance 1d + repair_sl"),
    ('purge_after = "60d"', 'purge_after = "29d"', "regions.be.lifecycle", "between 30d (grace) and 162d"),
    ('purge_after = "60d"', 'purge_after = "163d"', "regions.be.lifecycle", "between 30d (grace) and 162d"),
    ('expiry_gap = "2d"', 'expiry_gap = "1m"', "regions.be.lifecycle.expiry_gap", "at least 1h"),
    ('database = "app"', 'database = "ap"', "regions.be.lifecycle.query.database", 'has no database "ap"'),
    ('database = "app"', "", "regions.be.lifecycle.query", "exactly one of database"),
    ('database = "app"', 'database = "app"\ndsn = "dbname=a"', "regions.be.lifecycle.query", "exactly one of database"),
    ('database = "app"', 'database = "app"\npassfile = "/p"', "regions.be.lifecycle.query", "without a dsn"),
    ('database = "app"', 'databse = "app"', "regions.be.lifecycle.query.databse", "unknown key"),
    ('sql = "SELECT id', 'sql = "DELETE; SELECT id', "regions.be.lifecycle.query.sql", "one SELECT"),
    ('sql = "SELECT id', 'sql = "DELETE FROM tenant --', "regions.be.lifecycle.query.sql", "one SELECT"),
    ("FROM public.tenant", "FROM a; DROP TABLE b", "regions.be.lifecycle.query.sql", "one SELECT"),
    ('clock = "tenant"', 'clock = "mine"', "classes.support.clock", "'tenant' or 'own'"),
    ('max_age = "60d"', 'max_age = "1h"', "classes.support.max_age", "at least 1d"),
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


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("workers", "worker"),
        ("most_tenants", "most_tenant"),
        ("keep_minimum", "keep_minium"),
        ("expiry_gap", "expire_gap"),
        ("database", "databse"),
        ("keepers", "keeper"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_known_one(right, wrong):
    """A slip of the pen is recognised, in every section."""
    faults = faults_of(changed(f"\n{right} = ", f"\n{wrong} = "))

    assert [f'Did you mean "{right}"?'] == [fault.hint for fault in faults if fault.message == "unknown key"]


def test_the_window_may_be_used_up_to_its_end():
    """A grace that leaves just what is needed after it is allowed, and one that leaves less is not."""
    assert parse(changed('grace = "30d"', 'grace = "162d"').replace("purge_after", "# purge_after"), "x")
    assert "cannot be kept" in faults_of(changed('grace = "30d"', 'grace = "3889h"'))[0].message


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

    keys = [fault.key for fault in advice_on(text)]

    assert keys == ["recipients", "node.signing_key_file", "trust.signers"]


def test_advice_tells_roles_apart():
    """No tenant key, a keeper that writes, and a keeper's credential on a writer load, and are pointed out."""
    both = WHOLE.replace("tenant_key_file", "#", 1)
    writer = EXAMPLE.replace("# keeper_key", "keeper_key")

    assert [fault.key for fault in advice_on(both)] == ["node.tenant_key_file", "keeper"]
    assert [fault.key for fault in advice_on(writer)] == ["stores.zurich.keeper_key"]
