"""`openxclip embed` and `classify` with `--cluster` on a cluster of real processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import openxclip
from openxclip.cli.main import cli

pytestmark = pytest.mark.slow
pa_dataset = pytest.importorskip("pyarrow.dataset")

SAMPLES = Path(__file__).parent.parent.parent / "samples"
Command = Callable[..., Any]
LABELS = "a cat moves left, a dog jumps, an owl vanishes"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five copies of the six samples, and a broken file."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(5):
        for sample in SAMPLES.glob("*.mp4"):
            shutil.copy(sample, folder / f"{number}_{sample.name}")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def read(out: Path | str) -> dict[str, list[dict[str, Any]]]:
    """The rows of each video in order of time."""
    if str(out).endswith(".lance"):
        import lance

        rows = lance.dataset(str(out)).to_table().to_pylist()
    else:
        rows = pa_dataset.dataset(str(out), format="parquet").to_table().to_pylist()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row.get("start", 0)):
        found.setdefault(row["path"], []).append(row)
    return found


def test_embed_equals_the_local_features(command: Command, ray_cluster: Any, videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.lance"
    how = ("embed", videos, "--out", out, "--model", "mini", "--window", "0.5", "--cluster", ray_cluster.address)
    ran = command(*how)
    assert ran.returncode == 1, ran.stderr
    assert f"1 video could not be read: {out}.parts/_failures.parquet has the reasons" in ran.stderr
    local = tmp_path / "local.npz"
    openxclip.embed(videos, local, model="mini", window=0.5, device="cpu")
    expected = np.load(local)
    paths = json.loads(str(expected["openxclip"]))["paths"]
    rows = read(out)
    assert sum(map(len, rows.values())) == len(expected["pooled"])
    for number, path in enumerate(paths):
        chosen = expected["video"] == number
        if not chosen.any():
            assert path.endswith("broken.mp4")
            continue
        for column in ("start", "end", "times", "pooled"):
            found = np.array([row[column] for row in rows[path]])
            np.testing.assert_allclose(found, expected[column][chosen], atol=1e-5)
    (failure,) = pa_dataset.dataset(str(tmp_path / "features.lance.parts" / "_failures.parquet")).to_table().to_pylist()
    assert failure["path"].endswith("broken.mp4")


def test_classify_equals_the_local_results(command: Command, ray_cluster: Any, videos: Path, tmp_path: Path) -> None:
    how = ("classify", videos, "--labels", LABELS, "--model", "mini")
    ran = command(*how, "--cluster", ray_cluster.address, "--out", "labels", cwd=tmp_path)
    assert ran.returncode == 1, ran.stderr
    assert "30 rows of 30 videos added" in ran.stdout
    local = [json.loads(line) for line in CliRunner().invoke(cli, [*map(str, how), "--json"]).stdout.splitlines()]
    rows = {path: row for path, (row,) in read(tmp_path / "labels").items()}
    for expected in local:
        if "error" in expected:
            assert expected["path"] not in rows
            continue
        row = rows[expected["path"]]
        assert row["outcome"] == expected["outcome"]
        assert [label["label"] for label in row["labels"]] == [label["label"] for label in expected["labels"]]
        scores = [[label["score"] for label in labels] for labels in (row["labels"], expected["labels"])]
        np.testing.assert_allclose(*scores, atol=1e-4)
        assert row["times"] == expected["times"]
