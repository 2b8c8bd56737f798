"""No secret is written in the configuration, and none that is gets repeated."""

import pytest
from test_config import EXAMPLE, WHOLE, changed, faults_of

from backupd.config.faults import spell
from backupd.config.files import file_findings, unavailable_credentials
from backupd.config.load import parse
from backupd.config.redact import redacted
from backupd.config.secrets import FileRef, parse_file_ref
from backupd.errors import ConfigError

SECRET = "hunter2-4711"

# A way to write a secret into the file, and the key that is refused.
INLINE = [
    ("dbname=app user=backupd", f"dbname=app password={SECRET}", "regions.be.databases.app.dsn"),
    ("dbname=app user=backupd", f"dbname=app PassWord = {SECRET}", "regions.be.databases.app.dsn"),
    ("dbname=app user=backupd", f"dbname=app sslpassword={SECRET}", "regions.be.databases.app.dsn"),
    ("host=db1.example dbname=app", f"postgresql://backupd:{SECRET}@db1/app?x=", "regions.be.databases.app.dsn"),
    ("host=db1.example dbname=app", f"postgresql://db1/app?password={SECRET}&x=", "regions.be.databases.app.dsn"),
    (
        'service = "analytics"',
        f'service = "analytics"\npassword = "{SECRET}"',
        "regions.be.databases.analytics.password",
    ),
    ('user = "zh1234"\n', f'user = "zh1234"\npassphrase = "{SECRET}"\n', "stores.zurich.passphrase"),
    ("[node]", f'[node]\nsecret = "{SECRET}"', "node.secret"),
    ("[node]", f'[node]\ntoken = ["{SECRET}"]', "node.token"),
    (
        '"credential:store.key"',
        f'"""-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----"""',
        "stores.zurich.key",
    ),
    ('"/etc/backupd/escrow.recipient"', f'\'{{"backupd":"identity","sealed":"{SECRET}"}}\'', "recipients[1]"),
]


@pytest.mark.parametrize(("old", "new", "key"), INLINE, ids=[key for _, _, key in INLINE])
def test_an_inline_secret_is_refused_once_with_a_way_out_and_not_repeated(old, new, key):
    """The one fault names the key and says where secrets belong; nothing of the report holds the secret."""
    faults = faults_of(changed(old, new))

    assert [key] == [fault.key for fault in faults]
    assert "holds a secret" in faults[0].message
    assert "credential:NAME" in faults[0].hint
    assert SECRET not in repr(faults)


# Any value may be a secret put into the wrong place: no fault repeats it.
MISPLACED = [
    ('key = "credential:store.key"', f'key = "{SECRET}"'),
    ('signing_key_file = "credential:signing.key"', f'signing_key_file = "{SECRET}"'),
    ('tenant_key_file = "credential:tenant.key"', f'tenant_key_file = "{SECRET}"'),
    ('keeper_key = "credential:keeper-store.key"', f'keeper_key = "{SECRET}"'),
    ('sql = "SELECT', f'sql = "{SECRET}; SELECT'),
    ('passfile = "credential:pgpass"', f'passfile = "{SECRET}"'),
    ('spool_size = "2GiB"', f'spool_size = "{SECRET}"'),
    ('lock_timeout = "30s"', f'lock_timeout = "{SECRET}"'),
    ('user = "zh1234"', f'user = "{SECRET} x"'),
    ('host_keys = ["ssh-ed25519', f'host_keys = ["{SECRET}'),
    ('kind = "sftp"', f'kind = "{SECRET}"'),
    ('signers = ["1363a', f'signers = ["{SECRET}'),
    ('unclassified = "refuse"', f'unclassified = "{SECRET}"'),
    ("[0-9]+)'", f"{SECRET}[0-9'"),
    ('bandwidth = "unlimited"', f'bandwidth = "{SECRET}/s"'),
]


@pytest.mark.parametrize(("old", "new"), MISPLACED, ids=[old.partition(" ")[0] for old, _ in MISPLACED])
def test_no_fault_repeats_a_value(old, new):
    """Whoever pastes a secret under the wrong key does not find it in the log."""
    assert SECRET not in repr(faults_of(changed(old, new)))


def test_a_credential_is_found_where_systemd_puts_it():
    """credential:NAME is NAME in $CREDENTIALS_DIRECTORY; without the directory the error says so."""
    reference = parse_file_ref("credential:store.key")

    assert str(reference.resolve({"CREDENTIALS_DIRECTORY": "/run/credentials"})) == "/run/credentials/store.key"
    with pytest.raises(ConfigError, match=r'credential "store\.key" is not available'):
        reference.resolve({})


def test_a_file_of_a_folder_of_credentials_is_found_by_its_name(tmp_path):
    """systemd puts `backupd_` before the names in a folder that units load; a file loaded by itself goes first."""
    reference, environ = parse_file_ref("credential:store.key"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    (tmp_path / "backupd_store.key").touch()
    assert reference.resolve(environ) == tmp_path / "backupd_store.key"
    (tmp_path / "store.key").touch()
    assert reference.resolve(environ) == tmp_path / "store.key"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "x" * 300, "a\nb"])
def test_a_credential_cannot_name_a_file_elsewhere(name):
    """Names that leave the directory are refused."""
    with pytest.raises(ValueError, match="credential name"):
        parse_file_ref(f"credential:{name}")


def test_files_are_looked_at_but_never_read(tmp_path):
    """Missing files, secrets open to others and folders without pg_dump are faults; what needs systemd is said."""
    present, loose = tmp_path / "ops.recipient", tmp_path / "signing.key"
    present.touch(0o644)
    loose.touch(0o640)
    text = EXAMPLE.replace("/etc/backupd", str(tmp_path)).replace("credential:signing.key", str(loose))
    text = text.replace("client_dirs = []", f'client_dirs = ["{tmp_path}"]')

    config = parse(text, "x")

    assert [spell(path) for path, _, _ in file_findings(config, {})] == [
        "node.signing_key_file",
        "recipients[1]",
        "node.client_dirs[0]",
    ]
    assert unavailable_credentials(config, {}) == ("credential:tenant.key", "credential:store.key", "credential:pgpass")


def test_credentials_are_looked_at_where_there_are_some(tmp_path):
    """Inside a unit a missing credential is a fault like any missing file."""
    (tmp_path / "signing.key").touch(0o400)
    (tmp_path / "pgpass").touch(0o400)

    config, environ = parse(EXAMPLE, "x"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert "stores.zurich.key" in [spell(path) for path, _, _ in file_findings(config, environ)]
    assert unavailable_credentials(config, environ) == ()


def test_a_unit_need_not_have_the_keys_of_other_roles(tmp_path):
    """On a machine of several units, keys of the keeper and of drills are no fault of the writer's unit."""
    (tmp_path / "backupd_signing.key").touch(0o400)
    config, environ = parse(WHOLE, "x"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    found = {spell(path) for path, _, _ in file_findings(config, environ)}

    assert {"node.tenant_key_file", "stores.zurich.key"} <= found
    assert not {"keeper.signing_key_file", "drill.passphrase_file", "stores.zurich.keeper_key"} & found
    assert set(unavailable_credentials(config, environ)) == {
        "credential:keeper.key",
        "credential:keeper-store.key",
        "credential:drill.identity",
        "credential:drill.passphrase",
        "credential:drill-pgpass",
        "credential:escrow.identity",
        "credential:escrow.passphrase",
    }


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("host=db1 dbname=app user=b options='-c x=y' sslcert=/x", "host=db1 dbname=app user=b options=… sslcert=…"),
        ("postgresql://b@db1/app?options=x", "postgresql://b@db1/app"),
    ],
)
def test_shown_connection_strings_keep_only_the_address(dsn, shown):
    """`config show` gives host, port, database and user, and nothing else of a connection string."""
    text = changed("host=db2.example dbname=postgres user=backupd sslmode=verify-full", dsn)

    assert shown == redacted(parse(text, "x"))["regions"]["be"]["databases"]["dedicated"]["dsn"]


def test_a_reference_shows_its_name():
    """A FileRef is a name, so it may be printed."""
    assert FileRef("credential:a") == parse_file_ref("credential:a")
