"""Classification takes its neutral texts and thresholds from the model's contract of time."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_contracts import with_contract

from openxclip import CheckpointError, classify
from openxclip.pipeline import VideoPipeline
from openxclip.recognition import Classification, Classifier
from openxclip.recognition.classification import NONE_OF_THESE

LABELS = ["a red wall", "the sea"]


def contracted(tiny_folder: Path, tmp_path: Path, **values: object) -> VideoPipeline:
    folder = with_contract(tiny_folder, tmp_path / f"model{len(list(tmp_path.iterdir()))}", values)
    return VideoPipeline.from_pretrained(folder, device="cpu", isolate=False)


def of(video: Path, pipeline: VideoPipeline, **options: float) -> Classification:
    (result,) = classify(video, LABELS, model=pipeline, **options)
    return result


def test_the_best_label_needs_the_threshold_of_the_contract(
    tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    video = clip_folder / "red2.mp4"
    plain = of(video, contracted(tiny_folder, tmp_path))
    best = plain.labels[0]
    below, above = best.score / 2, (best.score + 1) / 2
    assert of(video, contracted(tiny_folder, tmp_path, threshold=below)).outcome == best.label
    assert of(video, contracted(tiny_folder, tmp_path, threshold=above)).outcome == NONE_OF_THESE
    own = {best.label: {"threshold": below, "false_alarms_per_hour": 1}}
    assert of(video, contracted(tiny_folder, tmp_path, threshold=above, labels=own)).outcome == best.label
    other = {plain.labels[1].label: {"threshold": below, "false_alarms_per_hour": 1}}
    strict = contracted(tiny_folder, tmp_path, threshold=above, labels=other)
    assert of(video, strict).outcome == NONE_OF_THESE
    assert of(video, strict, min_score=below).outcome == best.label
    assert (of(video, contracted(tiny_folder, tmp_path), min_score=0.5).outcome) == plain.outcome  # 0.5 is the default


def test_scores_are_against_the_neutral_texts_of_the_contract(
    tiny_folder: Path, clip_folder: Path, tmp_path: Path
) -> None:
    video = clip_folder / "red2.mp4"
    itself = of(video, contracted(tiny_folder, tmp_path, neutral_texts=[LABELS[0]]))
    assert {label.label: label.score for label in itself.labels}[LABELS[0]] == pytest.approx(0.5, abs=1e-5)
    against_two = of(video, contracted(tiny_folder, tmp_path, neutral_texts=LABELS))
    assert sum(label.score for label in against_two.labels) < 1
    plain = of(video, contracted(tiny_folder, tmp_path))
    assert [label.probability for label in itself.labels] == pytest.approx(
        [label.probability for label in plain.labels], abs=1e-5
    )


def test_progress_counts_the_neutral_texts_of_the_contract(tiny_folder: Path, tmp_path: Path) -> None:
    counts: list[int] = []
    Classifier(contracted(tiny_folder, tmp_path, neutral_texts=["a", "b", "c"]), LABELS, on_text=counts.append)
    assert counts[-1] == 5


def test_an_invalid_contract_is_an_error_of_the_checkpoint(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model0: config.json: openxclip: threshold=2: must be a number from 0"):
        Classifier(contracted(tiny_folder, tmp_path, threshold=2), LABELS)
