"""The floors of the package, as pyproject.toml states them."""

import subprocess
import sys

import grimp
from doubles.paths import ROOT
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports


def test_imports_go_down_only_and_each_foreign_library_has_one_home(capsys, monkeypatch):
    """Every contract under [tool.importlinter] is kept; the output names the broken one."""
    monkeypatch.chdir(ROOT)

    status = lint_imports(config_filename="pyproject.toml", cache_dir=None, no_cache=True)

    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_no_modules_import_each_other_in_a_circle():
    """Late imports count, too: whoever reads one of two such modules has to have read the other."""
    graph = grimp.build_graph("backupd", cache_dir=None)
    left = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    while True:
        imported = set().union(*left.values())
        inside = {module for module in left if left[module] & left.keys() and module in imported}
        if len(inside) == len(left):
            break
        left = {module: left[module] & inside for module in inside}

    assert sorted(left) == []


def test_the_library_that_sends_messages_is_loaded_only_to_send_some() -> None:
    """It brings a dozen others with it, and they have no business beside keys: jobs run in processes without them."""
    program = """
import importlib, pkgutil, sys
import backupd
for found in pkgutil.walk_packages(backupd.__path__, "backupd."):
    if not found.name.endswith(("monitoring.notify", "__main__")):
        importlib.import_module(found.name)
sys.exit(" ".join({"apprise", "requests", "urllib3", "markdown", "oauthlib"} & sys.modules.keys()) or None)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
