"""Each room of the package imports only rooms that stand before it, and no two modules import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import openxclip

PACKAGE = Path(openxclip.__file__).parent
ORDER = (
    "errors", "_version", "common", "hub", "config", "checkpoints", "model", "video", "processing", "conversion",
    "inspection", "engine", "pipeline", "features", "recognition", "search",
    "timelines", "datasets", "recipes", "evaluation",
    "training", "playground", "benchmarking", "cluster", "client", "serve", "cli", "__main__",
)  # fmt: skip


def name_of(path: Path) -> str:
    """`model.layers` for `model/layers.py`, `model` for `model/__init__.py`."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"}


def imported_by(module: str) -> set[str]:
    """Every module of this package that a module imports anywhere in it, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "openxclip":
            home = node.module.removeprefix("openxclip").removeprefix(".")  # type: ignore[union-attr]
            for alias in node.names:
                full = f"{home}.{alias.name}".removeprefix(".")
                found.add(full if full in MODULES else home)
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("openxclip.") for alias in node.names if "openxclip." in alias.name}
    return found


def test_the_top_level_holds_rooms_and_five_modules() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules == {"__init__", "__main__", "_version", "errors", "hub"}
    assert {name.partition(".")[0] for name in MODULES} - {"models"} == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_rooms_before_it(room: str) -> None:
    before = set(ORDER[: ORDER.index(room) + 1])
    wrong = {
        f"{module} imports {other}"
        for module in MODULES
        if module.partition(".")[0] == room
        for other in imported_by(module)
        if other.partition(".")[0] not in before
    }
    assert not wrong


def test_no_modules_import_each_other() -> None:
    TopologicalSorter({module: imported_by(module) for module in MODULES}).prepare()  # raises CycleError


@pytest.mark.parametrize("room", ["config", "checkpoints", "video", "hub"])
def test_a_room_without_pytorch(room: str) -> None:
    code = f"import sys, openxclip.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
