"""Files of results, and what they record."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from logits_by_hand import CLASSES

import openxclip
from openxclip import OpenXCLIPError
from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.datasets.samples import Dataset, Sample, sample_names
from openxclip.evaluation.protocols import evaluate, evaluate_retrieval
from openxclip.evaluation.results import EvaluationProtocol, Results, Unread
from openxclip.pipeline import VideoPipeline


@pytest.fixture(scope="module")
def results(pipeline: VideoPipeline, dataset: Dataset) -> Results:
    return evaluate(pipeline, dataset)


def test_results_record_model_data_and_versions(
    results: Results, pipeline: VideoPipeline, dataset: Dataset, tiny_folder: Path, tmp_path: Path
) -> None:
    assert results.model == str(tiny_folder)
    assert results.model_hash == fingerprint(pipeline.model)
    weights = (tiny_folder / "model.safetensors").read_bytes()
    assert results.model_files == {"model.safetensors": hashlib.sha256(weights).hexdigest()}
    assert (results.dataset, results.dataset_hash, results.classes) == ("walls", dataset.hash(), CLASSES)
    assert (results.openxclip, results.torch) == (openxclip.__version__, torch.__version__)
    assert results.date.endswith("+00:00")
    changed = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    unnamed = VideoPipeline(changed.model, changed.processor, isolate=False, precision=None)
    with torch.no_grad():
        changed.model.logit_scale.add_(0.5)
    others = evaluate(unnamed, dataset)
    assert (others.model, others.model_files) == (None, {})
    assert others.model_hash != results.model_hash


def test_results_are_saved_and_loaded(
    results: Results, damaged: Dataset, pipeline: VideoPipeline, tmp_path: Path
) -> None:
    part = evaluate(pipeline, damaged, EvaluationProtocol(templates=("{}", "a {}"), seed=3), part=(1, 3))
    strange = replace(results, errors=(Unread(3, os.fsdecode(b"\xff\n'\".mp4"), "café"),))
    for saved in (results, part, strange):
        assert saved.save(tmp_path / "r.json") == tmp_path / "r.json"
        assert Results.load(tmp_path / "r.json") == saved
        lines = (tmp_path / "r.json").read_text(encoding="utf-8").splitlines()
        assert sum('"sample"' in line and '"top"' in line for line in lines) == len(saved.predictions)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["r.json"]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["protocol"]["num_clips"] == 1
    assert content["predictions"][0]["sample"] == "red2.mp4"


def test_results_are_written_atomically(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.save(tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            replace(results, model="other").save(tmp_path / "r.json")
    with pytest.raises(ValueError, match="nan"):
        replace(results, metrics={"top1": float("nan")}).save(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "r.json"]


def broken(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {**content, "task": "regression"}
    yield {**content, "predictions": [{"index": 0}]}
    yield {**content, "predictions": None}
    yield {**content, "predictions": [{**content["predictions"][0], "top": [1, 2]}]}
    yield {**content, "protocol": {**content["protocol"], "speed": 3}}
    yield {**content, "surprise": 1}
    yield {name: value for name, value in content.items() if name != "dataset_hash"}


def test_files_without_results_are_refused(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(OpenXCLIPError, match=r"r\.json: there is no such file"):
        Results.load(path)
    for text in ("", "[]", "{}", '{"format": "openxclip results 9"}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(OpenXCLIPError, match=r"r\.json: "):
            Results.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(OpenXCLIPError, match="can't be read as results"):
        Results.load(path)
    results.save(path)
    content = json.loads(path.read_text())
    for invalid in broken(content):
        path.write_text(json.dumps(invalid))
        with pytest.raises(OpenXCLIPError, match="can't be read as results"):
            Results.load(path)


def test_missing_files_are_noticed_before_videos_are_read(
    pipeline: VideoPipeline, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = replace(dataset, samples=(*dataset.samples, Sample("gone.mp4", label=0, text="gone")))
    monkeypatch.setattr(VideoPipeline, "encode_parts", None)
    for test in (evaluate, evaluate_retrieval):
        with pytest.raises(OpenXCLIPError, match=r"gone\.mp4"):
            test(pipeline, replace(missing, samples=tuple(replace(sample, text="a") for sample in missing.samples)))


def test_names_survive_a_move(dataset: Dataset, clip_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(clip_folder, tmp_path / "moved")
    samples = tuple(
        replace(sample, source=str(tmp_path / "moved" / dataset.name_of(sample))) for sample in dataset.samples
    )
    moved = replace(dataset, samples=samples, root=str(tmp_path / "moved"))
    assert sample_names(moved) == sample_names(dataset) == ["red2.mp4", "more/blue.mp4", "red10.mp4"]
    assert moved.hash() == dataset.hash()


def test_confusion_matrix_of_results(results: Results) -> None:
    matrix = results.confusion_matrix()
    assert matrix.sum() == 3
    assert [int(row.sum()) for row in matrix] == [2, 0, 0, 1, 0, 0, 0]
    for prediction in results.predictions:
        assert matrix[prediction.label, prediction.top[0][0]] > 0
