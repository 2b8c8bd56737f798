"""The floors of the package, as pyproject.toml states them."""

from pathlib import Path

from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

ROOT = Path(__file__).parent.parent


def test_imports_go_down_only_and_each_foreign_library_has_one_home(capsys, monkeypatch):
    """Every contract under [tool.importlinter] is kept; the output names the broken one."""
    monkeypatch.chdir(ROOT)

    status = lint_imports(config_filename="pyproject.toml", cache_dir=None, no_cache=True)

    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out
