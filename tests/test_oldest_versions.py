"""The oldest versions that pyproject.toml allows do the main jobs. (PyTorch apart: it is the one under test.)"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
SAMPLES = sorted((ROOT / "samples").glob("*.mp4"))

pytestmark = pytest.mark.slow


def lower_bounds(name: str) -> dict[str, str]:
    """Of a list of requirements in pyproject.toml (Python 3.10 has no reader of TOML)."""
    (listed,) = re.findall(rf"^{name} = \[(.*?)\]$", PROJECT, flags=re.DOTALL | re.MULTILINE)
    return dict(re.findall(r'"([\w.-]+)>=([\d.]+)', listed))


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
        capture_output=True,
        text=True,
    )


def last_error(done: subprocess.CompletedProcess[str]) -> str:
    return ([line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()])[-1]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest versions, and with what they need."""
    folder = tmp_path_factory.mktemp("oldest")
    oldest = [f"{name}=={version}" for name, version in lower_bounds("dependencies").items() if name != "torch"]
    oldest += [f"{name}=={version}" for name, version in lower_bounds("parquet").items()]
    reached = pip("download", "--quiet", "--no-deps", "--dest", str(folder / "wheels"), oldest[-2])
    if reached.returncode:
        pytest.skip(f"pip can't have packages here: {last_error(reached)}")
    done = pip("install", "--quiet", "--only-binary", ":all:", "--target", str(folder / "packages"), *oldest)
    if done.returncode and sys.version_info >= (3, 12):
        pytest.skip(f"the oldest versions have no wheels for this Python: {last_error(done)}")
    assert done.returncode == 0, done.stderr
    return folder / "packages"


@pytest.fixture(scope="module")
def environment(packages: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error"}


def openxclip(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from openxclip.cli.main import main; main()", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_lower_bounds_are_found() -> None:
    assert {"torch", "numpy", "av", "click"} <= set(lower_bounds("dependencies"))
    assert set(lower_bounds("parquet")) == {"pyarrow"}


def test_the_oldest_versions_are_imported(packages: Path, environment: dict[str, str]) -> None:
    script = f"""
import json
from importlib.metadata import version
import av, click, numpy, PIL, rich, safetensors, tokenizers
files = [module.__file__ for module in (av, click, numpy, PIL, rich, safetensors, tokenizers)]
print(json.dumps([files, {{name: version(name) for name in {sorted(lower_bounds("dependencies"))}}}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    files, versions = json.loads(done.stdout)
    assert all(Path(file).is_relative_to(packages) for file in files)
    for name, bound in lower_bounds("dependencies").items():
        if name != "torch":
            assert re.sub(r"(\.0)+$", "", versions[name]) == re.sub(r"(\.0)+$", "", bound), name


def test_classify(environment: dict[str, str]) -> None:
    written = openxclip(
        *("classify", "samples", "--model", "mini", "--labels-file", "samples/labels.txt"), environment=environment
    )
    rows = [json.loads(line) for line in written.splitlines()]
    assert len(rows) == len(SAMPLES)
    for row in rows:
        assert re.sub(r"^an? ", "", row["outcome"]) == Path(row["path"]).stem.replace("_", " ")


def test_embed_equals_the_installed_versions(environment: dict[str, str], tmp_path: Path) -> None:
    installed = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    for name, where in (("oldest.npz", environment), ("oldest.parquet", environment), ("installed.npz", installed)):
        openxclip("embed", "samples", "--model", "mini", "--out", str(tmp_path / name), environment=where)
    oldest, now = np.load(tmp_path / "oldest.npz"), np.load(tmp_path / "installed.npz")
    assert oldest.files == now.files
    floats = [name for name in now.files if now[name].dtype.kind == "f"]
    assert floats
    for name in now.files:
        if name in floats:
            np.testing.assert_allclose(oldest[name], now[name], atol=1e-5)
        else:
            np.testing.assert_array_equal(oldest[name], now[name])
    assert (tmp_path / "oldest.parquet").stat().st_size > 0


def test_info_and_check(environment: dict[str, str]) -> None:
    assert json.loads(openxclip("info", "mini", "--json", environment=environment).splitlines()[0])["kind"] == "xclip"
    sample = json.loads(openxclip("info", str(SAMPLES[0]), "--json", environment=environment).splitlines()[0])
    assert sample["kind"] == "video"
    assert sample["frames"] > 1
    openxclip("check", "samples", environment=environment)
