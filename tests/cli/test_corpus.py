"""The corpus, small: an application of the tests' own goes through all steps, and what is wrong is found."""

import json
import os
import subprocess
import sys

import pytest
from doubles.paths import ROOT

RECIPE = """
what = "An ERP"
setup = 'psql -Xq -v ON_ERROR_STOP=1 -f "{root}/tests/schemas/erp.sql"'
tenants = "public.company_company"
tenancy = 'tenancy = {{ kind = "column", table = "public.company_company", null_tenant = "shared" }}'
decided = [{decided}]
shared = [{shared}]
"""
DECIDED = """'{ match = ["public.res_user"], shared = true },', '{ match = ["public.ir_note_read"], shared = true },'"""


def corpus(tmp_path, decided="", shared=""):
    recipe = tmp_path / "erp.toml"
    recipe.write_text(RECIPE.format(root=ROOT, decided=decided, shared=shared))
    done = subprocess.run(
        [ROOT / "scripts" / "corpus", "--recipe", recipe, "--json"],
        check=False,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "BACKUPD_PYTHON": sys.executable},
    )
    (found,) = json.loads(done.stdout)
    return done, found


def test_an_application_goes_through_all_steps(tmp_path):
    """Mapped by few lines, backed up, restored, drilled, damaged, and without one tenant as its keys say."""
    done, found = corpus(tmp_path, DECIDED, "'public.res_user', 'public.currency_currency'")
    assert done.returncode == 0, done.stderr
    words = ("restore", "drill", "damaged", "purge", "wrong", "decided", "tables")
    assert [found[one] for one in words] == ["equal", "pass", "noticed", "equal", 0, 2, 17]
    assert found["rows"] > 100  # the generator's, beside those of the application
    assert found["lines"] < 10


@pytest.mark.parametrize(
    ("decided", "shared", "said"),
    [
        ("", "", "left to decide: public.ir_note_read, public.res_user"),
        (DECIDED, "'public.product_cost'", "mapped wrongly: public.product_cost"),
    ],
)
def test_what_is_not_well_is_said(tmp_path, decided, shared, said):
    """Tables that nobody decided about, and those that went to tenants and are nobody's."""
    done, _ = corpus(tmp_path, decided, shared)
    assert done.returncode == 1
    assert said in done.stderr


def test_the_manual_has_a_row_for_each_application(monkeypatch):
    """And the columns that the script prints."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from lib.corpus.__main__ import HEADINGS
    from lib.corpus.recipe import known, recipe_of

    manual = (ROOT / "backupd" / "manual" / "design.md").read_text()
    assert f"| {' | '.join(HEADINGS)} |" in manual
    assert [name for name in known() if f"\n| {recipe_of(name).what} | " not in manual] == []
