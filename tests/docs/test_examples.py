"""The scripts of examples/ are short, run as they stand, and print what docs/examples.md shows."""

from __future__ import annotations

import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from test_pages import ROOT, assert_printed, blocks, commands

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
SHOWN = {command: block.output for block in blocks("docs/examples.md") for command in commands(block)}
NEEDS = {"features_to_sklearn": "sklearn", "highlights": "lancedb", "near_duplicates": "lancedb"}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the scripts use, as the current folder."""
    for name in ("examples", "samples"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scripts_are_short() -> None:
    lengths = {script.name: len(script.read_text(encoding="utf-8").splitlines()) for script in SCRIPTS}
    assert len(lengths) == 5
    assert {name: length for name, length in lengths.items() if length >= 40} == {}


def test_the_page_shows_every_script_with_its_picture() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    for script in SCRIPTS:
        picture = f"images/example-{script.stem.replace('_', '-')}.png"
        assert f"python examples/{script.name}" in SHOWN
        assert f"]({picture})" in page
        assert (ROOT / "docs" / picture).stat().st_size < 100_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what reads and writes the index
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_script_prints_what_the_page_shows(
    script: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(NEEDS.get(script.stem, "openxclip"))
    command = f"python examples/{script.name}"
    monkeypatch.setattr(sys, "argv", shlex.split(command)[1:])
    runpy.run_path(f"examples/{script.name}", run_name="__main__")
    output = SHOWN[command]
    assert output is not None
    assert_printed(output, capsys.readouterr().out)


@pytest.mark.slow
def test_script_says_that_a_package_is_missing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "sklearn.linear_model", raising=False)
    with pytest.raises(SystemExit, match="pip install scikit-learn"):
        runpy.run_path("examples/features_to_sklearn.py", run_name="__main__")
