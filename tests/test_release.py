"""What is released: the version and the changelog agree, and the wheel has the package and nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import openxclip

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_version_and_changelog_agree(release: ModuleType) -> None:
    assert release.version() == openxclip.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert release.problems_of_changelog(changelog, openxclip.__version__) == []
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {openxclip.__version__}\n" in citation


@pytest.mark.parametrize(
    ("changelog", "agrees"),
    [
        ("# Changelog\n\n## 1.2.0\n\n## 1.1.0\n", True),
        ("## [1.2.0] - 2026-12-01\n", True),
        ("## Unreleased\n\n## 1.1.0\n", True),
        ("## Unreleased\n\n## 1.2.0\n", False),
        ("## 1.3.0\n\n## 1.2.0\n", False),
        ("# Changelog\n", False),
    ],
)
def test_changelog_that_disagrees(release: ModuleType, changelog: str, agrees: bool) -> None:
    assert (release.problems_of_changelog(changelog, "1.2.0") == []) is agrees


def test_faults_of_a_wheel_are_found(release: ModuleType) -> None:
    licenses = {f"openxclip-1.dist-info/{name}" for name in ("METADATA", "licenses/LICENSE", "licenses/NOTICE")}
    whole = release.files_of_package() | licenses
    assert release.problems_of_wheel(whole) == []
    for name in ("openxclip/models/mini/model.safetensors", "openxclip-1.dist-info/licenses/NOTICE"):
        assert release.problems_of_wheel(whole - {name}) == [f"the wheel lacks {name}"]
    assert release.problems_of_wheel({*whole, "tests/test_a.py"}) == ["the wheel has tests/test_a.py"]


@pytest.mark.slow
def test_contents_of_the_wheel(release: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        tmp_path,
        ROOT,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert release.problems_of_wheel(zipfile.ZipFile(wheel).namelist()) == []


@pytest.mark.slow
def test_no_two_packages_of_all_own_the_same_file(release: ModuleType) -> None:
    pytest.importorskip("packaging")
    packages = release.installed_with("openxclip", "all")
    assert {"torch", "openxclip"} <= {package.name for package in packages}
    assert release.shared_files(packages) == []
