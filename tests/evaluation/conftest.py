"""A model, a dataset and a damaged dataset."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from logits_by_hand import CLASSES

from openxclip.datasets.samples import Dataset, Sample
from openxclip.pipeline import VideoPipeline


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture(scope="module")
def dataset(clip_folder: Path) -> Dataset:
    labels = {"red2.mp4": 0, "more/blue.mp4": 3, "red10.mp4": 0}
    samples = tuple(Sample(str(clip_folder / name), label=label) for name, label in labels.items())
    return Dataset("walls", samples, CLASSES, root=str(clip_folder))


@pytest.fixture
def damaged(dataset: Dataset, clip_folder: Path, tmp_path: Path) -> Dataset:
    """The same samples and four more, two of which can't be read."""
    folder = tmp_path / "data"
    shutil.copytree(clip_folder, folder)
    (folder / "notes.mp4").write_text("not a video")
    (folder / "void.mp4").write_bytes(b"")
    names = ["notes.mp4", "red2.mp4", "more/blue.mp4", "void.mp4", "red10.mp4"]
    samples = [Sample(str(folder / name), label=i % 4) for i, name in enumerate(names)]
    samples += [
        Sample(str(folder / "red2.mp4"), label=2, start=0.5),
        Sample(str(folder / "red2.mp4"), 1, None, 0.2, 0.6),
    ]
    return Dataset("damaged", tuple(samples), CLASSES, root=str(folder))
