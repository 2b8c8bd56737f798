"""Configured sections become values and adapters."""

import hashlib
import io
import re
from pathlib import Path

import pytest
from doubles.samples.example_config import EXAMPLE, OUR_KEY

from backupd.config.load import parse
from backupd.errors import ConfigError, RefusedError, StoreGoneError, UsageError
from backupd.model.ids import RegionName
from backupd.model.tenancy import ClassPolicy, TableRule, TenancyKind
from backupd.operations.backup.region import BackupTarget
from backupd.seal.keyfiles import Recipient, read_signer, write_identity, write_recipient, write_signer
from backupd.seal.suite import generate
from backupd.seal.tags import write_tenant_key
from backupd.store.directory import DirectoryStore
from backupd.store.retry import RetryingStore
from backupd.store.sftp.ssh import SftpTarget
from backupd.store.throttle import ThrottledStore
from backupd.trace import NoTrace
from backupd.wiring.backup import backup_job, backup_node, impatient
from backupd.wiring.context import QUICKLY, Context, node_signer, open_store, source_of, tenancy_of
from backupd.wiring.drill import drill_advice
from backupd.wiring.restore import restore_target

BE = RegionName("be")


@pytest.fixture
def context(tmp_path):
    text = EXAMPLE.replace("/srv/backupd", str(tmp_path))
    return Context(parse(text, "example"), {"CREDENTIALS_DIRECTORY": "/run/credentials"})


def test_regions_databases_and_stores_are_all_or_the_named(context):
    """What is not named is everything; what is not configured is told with the nearest name."""
    assert (context.regions([]), context.regions(["be"])) == ([BE], [BE])
    assert (context.databases(BE), context.databases(BE, "app")) == (["app", "analytics", "dedicated"], ["app"])
    assert (context.stores_of(BE), context.stores_of(BE, "cellar")) == (("zurich", "cellar"), ("cellar",))
    for ask, hint in [
        (lambda: context.regions(["eb", "be"]), "Known are be."),
        (lambda: context.databases(BE, "analytic"), 'Did you mean "analytics"?'),
        (lambda: context.stores_of(BE, "zürich"), 'Did you mean "zurich"?'),
    ]:
        with pytest.raises(UsageError) as caught:
            ask()
        assert caught.value.hint == hint


def test_a_source_is_its_connection_string_or_service_and_files(context):
    """Secrets stay in files: their paths are handed on."""
    app, analytics = source_of(context, BE, "app"), source_of(context, BE, "analytics")

    assert app.conninfo == "host=db1.example dbname=app user=backupd sslmode=verify-full"
    assert app.passfile == Path("/run/credentials/pgpass")
    assert (analytics.conninfo, analytics.passfile) == ("service=analytics", None)


def test_tenancy_carries_the_rules_in_order_and_every_class(context):
    """The first rule that matches decides, so the order is the file's."""
    tenancy = tenancy_of(context, BE, "app")

    assert (tenancy.kind, tenancy.column, tenancy.unclassified) == (TenancyKind.COLUMN, "tenant_id", "refuse")
    assert tenancy.rules[2] == TableRule(
        tables=("public.ticket",), column="customer_id", data_class="support", null_tenant="shared"
    )
    assert [rule.path for rule in tenancy.rules if rule.path] == [("attachment_ticket_id_fkey",)]
    assert tenancy.classes["session"] is ClassPolicy.NEVER
    assert tenancy_of(context, BE, "dedicated").database_pattern == "customer_(?P<tenant>[a-z0-9]+)"


def test_everything_is_compared_at_least_once_between_two_drills():
    """So each drill finds a snapshot whose every row was read since the one before."""
    for audit, drills, expected in (("7d", "2d", 2), ("1d", "7d", 1)):
        text = re.sub(r'incremental_audit = "\w+"', f'incremental_audit = "{audit}"', EXAMPLE)
        text = re.sub(r'drill_every = "\w+"', f'drill_every = "{drills}"', text)
        job = backup_job(Context(parse(text, "example"), {"CREDENTIALS_DIRECTORY": "/run/credentials"}), BE, "app")
        assert (job.incremental, job.audit_every.days) == ("auto", expected)


def test_an_sftp_store_is_retried_and_has_its_keys_pinned(context):
    """Everything the configuration says of the store reaches the adapter."""
    store = open_store(context, BE, "zurich")

    assert isinstance(store, RetryingStore)
    assert store.inner.target == SftpTarget(
        host="zh1234.rsync.example",
        port=22,
        user="zh1234",
        key_file=Path("/run/credentials/store.key"),
        host_keys=context.config.stores["zurich"].host_keys,
        path="backupd",
        region="be",
        connections=8,
        bandwidth=0,
        deadline=60.0,
        patience=600.0,
    )


def test_who_waits_at_a_terminal_waits_less(context):
    """A shorter patience wins, a longer one does not."""
    assert open_store(context, BE, "zurich", QUICKLY).inner.target.patience == 15.0
    assert open_store(context, BE, "zurich", QUICKLY * 100).inner.target.patience == 600.0


def test_a_backup_need_not_wait_for_a_store_that_is_away(context):
    """`backup --no-wait` gives it the time that a question has, not its `patience`."""
    target = BackupTarget(BE, "zurich", lambda: None, None, None, (), None)
    assert impatient(context, target).open().inner.target.patience == 15.0


def test_a_directory_with_a_bandwidth_is_throttled(context, tmp_path):
    """Each region has its folder in the store's."""
    store = open_store(context, BE, "cellar")

    assert isinstance(store, ThrottledStore)
    assert isinstance(store.inner, DirectoryStore)
    assert store.inner.root == tmp_path / "be"


def test_a_directory_that_is_not_there_is_gone(context, tmp_path):
    """It may be a disk that is not mounted: it is not empty, and what another store holds can still be looked at."""
    store = open_store(context, BE, "cellar")
    tmp_path.rmdir()
    looks = (
        lambda: store.get("tmp/object"),
        lambda: store.stat("tmp/object"),
        lambda: list(store.list("")),
        lambda: store.remove("tmp/object"),
        lambda: store.put_new("tmp/object", io.BytesIO(b""), 0, hashlib.sha256().hexdigest()),
        store.space,
        store.snapshots,
        store.workbench,
    )
    for look in looks:
        with pytest.raises(StoreGoneError, match=r"the store's folder .* is not there"):
            look()
    tmp_path.mkdir()


def with_signer(path, signers):
    text = EXAMPLE.replace("credential:signing.key", str(path))
    text = text.replace(f'signers = ["{OUR_KEY}"]', signers)
    return Context(parse(text, "example"), {})


def test_a_signing_key_signs_only_what_will_be_trusted(tmp_path):
    """A snapshot that every reader would call damage is not written."""
    public = write_signer(tmp_path / "key").public

    assert node_signer(with_signer(tmp_path / "key", f'signers = ["{public}"]')).public == public
    assert node_signer(with_signer(tmp_path / "key", "signers = []")).public == public
    assert with_signer(tmp_path / "key", "signers = []").trusted_signers() is None
    with pytest.raises(ConfigError, match="not among the trusted signers") as caught:
        node_signer(with_signer(tmp_path / "key", f'signers = ["{"ab" * 32}"]'))
    assert public in caught.value.hint


def test_a_signing_key_is_read_as_it_was_written(tmp_path):
    """The file belongs to its owner only, and one that does not is refused."""
    made = write_signer(tmp_path / "key")

    assert read_signer(tmp_path / "key").public == made.public
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(ConfigError, match="open to other users"):
        read_signer(tmp_path / "key")


@pytest.mark.parametrize("content", ["", "hunter2", "00" * 31, "00" * 33, "é" * 32])
def test_what_is_no_signing_key_is_refused_and_not_repeated(tmp_path, content):
    """64 hex digits, nothing else."""
    (tmp_path / "key").write_text(content)
    (tmp_path / "key").chmod(0o600)

    with pytest.raises(ConfigError, match="is not a signing key") as caught:
        read_signer(tmp_path / "key")
    assert not content or content not in str(caught.value)


def test_a_drill_is_told_that_its_identity_opens_nothing_any_more(tmp_path):
    """After recipients were exchanged, whoever keeps the old identity for drills hears of it before one fails."""
    pairs = {name: generate() for name in ("old", "new")}
    for name, pair in pairs.items():
        write_identity(tmp_path / f"{name}.identity", name, pair, "a passphrase")
        write_recipient(tmp_path / f"{name}.recipient", Recipient(name, pair.public))
    drill = f'[drill]\nidentity = "{tmp_path}/old.identity"\npassphrase_file = "{tmp_path}/passphrase"\n'
    config = parse(f"{EXAMPLE}\n{drill}", "example")

    def advised(name):
        recipients = {"recipients": (tmp_path / f"{name}.recipient",)}
        return list(drill_advice(Context(config.model_copy(update=recipients), {})))

    assert advised("old") == []
    ((place, _, hint),) = advised("new")
    assert place == ("drill", "identity")
    assert hint.startswith("After recipients were exchanged, name the identity of the one that took its place.")


def test_every_region_and_store_has_an_index_and_a_spool_of_its_own(tmp_path):
    """Two stores of a region are two chains of snapshots."""
    write_signer(tmp_path / "key")
    write_tenant_key(tmp_path / "tenant")
    text = EXAMPLE.replace("credential:signing.key", str(tmp_path / "key"))
    text = text.replace("credential:tenant.key", str(tmp_path / "tenant"))
    text = re.sub(r"^signers = .*$", "signers = []", text, flags=re.MULTILINE)
    text = text.replace('"/var/lib/backupd"', f'"{tmp_path}"')
    context = Context(parse(text, "example").model_copy(update={"recipients": ()}), {})

    nodes = [backup_node(context, BE, store, NoTrace()) for store in ("zurich", "cellar")]

    assert [str(node.state) for node in nodes] == [f"{tmp_path}/be/zurich", f"{tmp_path}/be/cellar"]
    assert [str(node.spool) for node in nodes] == ["/var/spool/backupd/be/zurich", "/var/spool/backupd/be/cellar"]
    assert [node.uploaders for node in nodes] == [32, 2]


@pytest.mark.parametrize(
    ("dsn", "name"), [("host=/run dbname=new", "new"), ("postgresql://me@db/new?sslmode=require", "new")]
)
def test_a_target_names_the_new_database(context, dsn, name):
    """In either form of a connection string."""
    source, named = restore_target(context, dsn, Path("/pgpass"))

    assert (source.conninfo, source.passfile, named) == (dsn, Path("/pgpass"), name)


@pytest.mark.parametrize(
    ("dsn", "error"),
    [("host=/run", UsageError), ("host=/run dbname=new password=hunter2", ConfigError), ("gibber=ish", ConfigError)],
)
def test_a_target_without_a_name_or_with_a_password_is_refused(context, dsn, error):
    """And not repeated."""
    with pytest.raises(error) as caught:
        restore_target(context, dsn, None)

    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"


def test_rows_stay_where_their_region_may_be():
    """A machine that says where it is refuses regions that may not be there, unless a decision is named."""
    here = EXAMPLE.replace('# location = "brussels"', 'location = "elsewhere"')
    assert here != EXAMPLE
    there = EXAMPLE.replace('# location = "brussels"', 'location = "zurich"')

    with pytest.raises(RefusedError, match='in "elsewhere", where rows of region "be" may not go'):
        Context(parse(here, "example"), {}).require_residency(BE)
    Context(parse(here, "example"), {}).require_residency(BE, "DECISION-3")
    Context(parse(there, "example"), {}).require_residency(BE)
    Context(parse(EXAMPLE, "example"), {}).require_residency(BE)
