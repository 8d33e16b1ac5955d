"""The examples in docstrings run and print what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import shutil
import warnings
from pathlib import Path

import pytest

import openxclip

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
SOURCES = Path(openxclip.__file__).parent


def has_examples(module: pkgutil.ModuleInfo) -> bool:
    source = SOURCES.parent / module.name.replace(".", "/")
    path = source / "__init__.py" if module.ispkg else source.with_suffix(".py")
    return ">>> " in path.read_text(encoding="utf-8")


MODULES = sorted(module.name for module in pkgutil.walk_packages([str(SOURCES)], "openxclip.") if has_examples(module))
MAIN_NAMES = [
    *("XCLIPModel", "XCLIPProcessor", "XCLIPConfig", "XCLIPTextModel", "XCLIPVisionModel"),
    *("classify", "embed", "optimize", "VideoIndex"),
]


def test_main_names_have_examples() -> None:
    for name in MAIN_NAMES:
        assert ">>> " in (getattr(openxclip, name).__doc__ or ""), name


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SAMPLES, tmp_path / "samples")
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.attempted > 0
    assert result.failed == 0
