"""The documentation site: its tables and figures are current, and its checker finds what is wrong."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "docs"

PAGE = """<html><head>{head}</head><body><nav class="md-nav"><a href="index.html">Home</a></nav>
<article><h1 id="top">Page</h1>{body}</article></body></html>"""


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_made_from_the_committed_benchmarks() -> None:
    done = subprocess.run([sys.executable, SCRIPTS / "tables.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"run scripts/docs/tables.py:\n{done.stdout}"


def test_figures_are_drawn_by_the_script() -> None:
    figures = script("figures")
    for name, draw in figures.FIGURES.items():
        committed = (ROOT / "docs" / "images" / f"{name}.svg").read_text(encoding="utf-8")
        assert committed == draw().svg(), "run scripts/docs/figures.py"


def test_an_unknown_table_is_an_error() -> None:
    with pytest.raises(KeyError):
        script("tables").with_tables("<!-- table no-such -->\n<!-- end of table -->")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    pytest.importorskip("bs4")  # the extra docs
    return script("check")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "body", "problem"),
    [
        ("", '<a href="missing/">x</a>', "index.html: broken link missing/"),
        ("", '<img src="no.png">', "index.html: broken link no.png"),
        ("", '<a href="#nowhere">x</a>', "index.html: no such place on the page: #nowhere"),
        ("", "<p>see [x][openxclip.Nope]</p>", "index.html: unknown symbol openxclip.Nope"),
        ("", "<code>openxclip.video.nope()</code>", "index.html: unknown symbol openxclip.video.nope"),
        ("", '<img src="https://cdn.example/a.png">', "index.html: loads https://cdn.example/a.png"),
        ("", "<style>@import 'https://cdn.example/a.css';</style>", "index.html: loads https://cdn.example/a.css"),
        ('<link rel="stylesheet" href="//cdn.example/a.css">', "", "index.html: loads //cdn.example/a.css"),
        ('<script src="http://cdn.example/a.js"></script>', "", "index.html: loads http://cdn.example/a.js"),
    ],
)  # fmt: skip
def test_the_checker_finds(check: ModuleType, head: str, body: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE.format(head=head, body=body))
    problems = check.problems_of(tmp_path)
    assert problem in problems
    assert [line for line in problems if line.startswith("index.html")] == [problem]


@pytest.mark.slow
def test_the_checker_accepts_what_is_right(check: ModuleType, tmp_path: Path) -> None:
    body = '<a href="#top">a</a> <a href="https://arxiv.org">b</a> <code>openxclip.video.VideoReader.get_frames</code>'
    (tmp_path / "index.html").write_text(PAGE.format(head="", body=body))
    assert not [line for line in check.problems_of(tmp_path) if line.startswith("index.html")]


@pytest.mark.slow
def test_the_checker_finds_pages_in_no_menu_and_names_without_entry(check: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(PAGE.format(head="", body=""))
    (tmp_path / "lost.html").write_text(PAGE.format(head="", body=""))
    problems = check.problems_of(tmp_path)
    assert "lost.html: in no menu" in problems
    assert "openxclip.XCLIPModel: not in the reference" in problems


@pytest.mark.slow
def test_an_empty_site_is_a_problem(check: ModuleType, tmp_path: Path) -> None:
    assert check.problems_of(tmp_path) == [f"{tmp_path}: no pages"]
