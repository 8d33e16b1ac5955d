"""What each verb does without the packages of the extras."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import openxclip
from openxclip.errors import MissingPackageError, OpenXCLIPError

Run = Callable[..., Any]
OPTIONAL = ("jinja2", "kornia", "lancedb", "matplotlib", "pyarrow", "pydantic", "tensorboard", "transformers", "yacs",
            "yaml")  # fmt: skip
NEEDED_BY = [
    ("pyarrow", "parquet", ("embed", "{videos}", "--out", "{tmp}/f.parquet", "--model", "{model}")),
    ("pyarrow", "search", ("index", "{tmp}/index.parquet", "--to", "{tmp}/index")),
    ("pyarrow", "search", ("index", "--to", "{tmp}/index", "--export", "{tmp}/e.parquet")),
    ("lancedb", "search", ("index", "{videos}", "--to", "{tmp}/index", "--model", "{model}")),
    ("lancedb", "search", ("index", "{videos}", "--to", "{tmp}/index", "--remove")),
    ("lancedb", "search", ("search", "red", "--in", "{tmp}/index")),
    ("lancedb", "search", ("dedup", "--in", "{tmp}/index")),
    ("jinja2", "search", ("search", "red", "--in", "{tmp}/index", "--html", "{tmp}/found.html")),
    ("yaml", "train", ("train", "my-videos", "data={videos}", "--out", "{tmp}/out")),
    ("yaml", "train", ("train", "my-videos", "data={videos}", "--dry-run")),
    ("pydantic", "train", ("train", "my-videos", "data={videos}", "--out", "{tmp}/out")),
    ("yaml", "train", ("eval", "my-videos", "data={videos}", "--model", "{model}")),
    ("pydantic", "train", ("eval", "my-videos", "data={videos}", "--model", "{model}")),
    ("kornia", "train", ("train", "my-videos", "data={videos}", "--out", "{tmp}/out")),
    ("kornia", "train", ("train", "my-videos", "data={videos}", "--dry-run")),
    ("fastapi", "serve", ("serve", "--data", "{tmp}/data")),
    ("granian", "serve", ("serve", "--data", "{tmp}/data")),
    ("python_multipart", "serve", ("serve", "--data", "{tmp}/data")),
    ("prometheus_client", "serve", ("serve", "--data", "{tmp}/data")),
]


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make these packages as if they were not installed."""

    rooms = [["openxclip", name] for name in ("recipes", "evaluation", "training")]  # import packages at their top

    def block(*packages: str) -> None:
        for name in list(sys.modules):
            if name.partition(".")[0] in packages or name.split(".")[:2] in rooms:
                monkeypatch.delitem(sys.modules, name)
        for _, room in rooms:
            monkeypatch.setitem(vars(openxclip), room, None)
        for package in packages:
            monkeypatch.setitem(sys.modules, package, None)

    return block


@pytest.mark.parametrize(("package", "extra", "arguments"), NEEDED_BY)
def test_the_error_names_the_extra(
    package: str,
    extra: str,
    arguments: tuple[str, ...],
    run: Run,
    without: Callable[..., None],
    clip_folder: Path,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    without(package)
    places = {"videos": clip_folder, "model": tiny_folder, "tmp": tmp_path}
    ran = run(*(argument.format(**places) for argument in arguments))
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1, "one sentence"
    assert package in ran.stderr
    assert re.search(rf"pip install (--upgrade )?'openxclip\[{extra}\]'", ran.stderr)
    assert list(tmp_path.iterdir()) == [], "nothing is begun"


def test_verbs_that_need_no_optional_package(
    run: Run, without: Callable[..., None], clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    without(*OPTIONAL)
    video = clip_folder / "red2.mp4"
    for arguments in (
        ("models",), ("profile", "mini"), ("info", tiny_folder),
        ("embed", video, "--model", tiny_folder, "--out", tmp_path / "f.npz", "--device", "cpu"),
        ("convert", tiny_folder, tmp_path / "authors.pth", "--to", "authors"),
        ("classify", video, "--labels", "red, blue", "--model", tiny_folder, "--device", "cpu"),
        ("check", video),
        ("playground", "--out", tmp_path / "clips", "--clips", "1", "--size", "32", "--seconds", "0.5"),
    ):  # fmt: skip
        ran = run(*arguments)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout


def test_results_without_plots(
    run: Run, without: Callable[..., None], clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    for name, video in (("red", "red2.mp4"), ("blue", "more/blue.mp4")):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(clip_folder / video, tmp_path / "data" / name / "a.mp4")
    without("matplotlib")
    ran = run("eval", "my-videos", f"data={tmp_path / 'data'}", "hold_out=0", "--model", tiny_folder, "--out",
              tmp_path / "out", "--device", "cpu")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "confusion.csv"}
    without(*OPTIONAL)  # two files of results can be compared without any
    both = [tmp_path / "out/results.json"] * 2
    assert run("eval", "--compare", *both).returncode == 0


def test_a_package_that_cannot_be_imported_gives_its_own_reason(
    run: Run, without: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without("lancedb")
    monkeypatch.delitem(sys.modules, "lancedb")
    monkeypatch.syspath_prepend(tmp_path)
    for content, reason in (
        ("raise ImportError('libfoo.so: not found')", "libfoo.so: not found"),
        ("import no_such_package", "No module named 'no_such_package'"),
        ("", "No module named 'lancedb.index'"),
        ("class DBConnection: ...\n__version__ = '0.1'", "version 0.1 is too old"),
    ):
        package = tmp_path / "lancedb"
        shutil.rmtree(package, ignore_errors=True)
        package.mkdir()
        (package / "__init__.py").write_text(content)
        if "0.1" in content:
            (package / "index.py").write_text("IvfSq = None")
        for name in ("lancedb", "lancedb.index"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        ran = run("search", "red", "--in", tmp_path / "index")
        assert ran.returncode == 1
        assert f"can't be imported ({reason}" in ran.stderr
        assert "pip install --upgrade 'openxclip[search]'" in ran.stderr
    for name in ("lancedb", "lancedb.index"):
        sys.modules.pop(name, None)


def test_the_error_is_an_openxclip_error_and_an_import_error() -> None:
    error = MissingPackageError("a plot", "matplotlib", "plots")
    assert isinstance(error, OpenXCLIPError)
    assert isinstance(error, ImportError)
    assert error.name == "matplotlib"
    made, arguments = error.__reduce__()
    assert (
        str(made(*arguments))
        == str(error)
        == ("a plot needs matplotlib, which is not installed: pip install 'openxclip[plots]'.")
    )


def test_optional_packages_are_imported_when_they_are_used() -> None:
    source = Path(openxclip.__file__).parent
    found = set()
    for path in source.rglob("*.py"):
        if "serve" in path.relative_to(source).parts:  # the whole room needs its packages, which the verb checks first
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for statement in node.body if isinstance(node, ast.With | ast.Try) else [node]:
                names = [alias.name for alias in statement.names] if isinstance(statement, ast.Import) else []
                names += [str(statement.module)] if isinstance(statement, ast.ImportFrom) else []
                found |= {(path.name, name) for name in names if name.partition(".")[0] in OPTIONAL}
    assert found == {("recipe.py", "yaml"), ("recipe.py", "pydantic"), ("transformers_trainer.py", "transformers")}
