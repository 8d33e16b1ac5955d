"""Classification: its numbers, their order, and wrong arguments."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest
import torch

import openxclip
from openxclip import VideoError
from openxclip.pipeline import VideoPipeline
from openxclip.recognition import BACKGROUND_TEXTS, Classifier, classify, iter_classify
from openxclip.recognition.classification import NONE_OF_THESE, scores_of_labels
from openxclip.video import ClipPlan, find_videos, read_clips

LABELS = ["a red wall", "the sea", "nobody"]


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu")


def test_scores_of_labels_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5, -1.0]])  # two labels, two neutral texts
    e = logits[0].exp()
    probability, score = scores_of_labels(logits, 2)
    torch.testing.assert_close(probability, e[:2] / e[:2].sum())
    torch.testing.assert_close(score, torch.stack([e[0] / (e[0] + e[2:].sum()), e[1] / (e[1] + e[2:].sum())]))


def test_scores_average_over_clips() -> None:
    logits = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    probability, score = scores_of_labels(logits, 5)
    each = [scores_of_labels(row[None], 5) for row in logits]
    torch.testing.assert_close(probability, torch.stack([p for p, _ in each]).mean(0))
    torch.testing.assert_close(score, torch.stack([s for _, s in each]).mean(0))


@pytest.mark.parametrize("number", [1, 3, 300])
def test_the_outcome_agrees_with_none_of_these_however_many_labels(
    number: int, pipeline: VideoPipeline, clip_folder: Path
) -> None:
    labels = [f"label number {i}" for i in range(number)]
    (at_half,) = classify(clip_folder / "red2.mp4", labels, model=pipeline)
    assert at_half.none_of_these == pytest.approx(1 - at_half.labels[0].score)
    assert (at_half.outcome == NONE_OF_THESE) == (at_half.none_of_these > 0.5)


def test_score_of_a_label_does_not_depend_on_the_others(pipeline: VideoPipeline, clip_folder: Path) -> None:
    video = clip_folder / "red2.mp4"
    (alone,) = classify(video, LABELS[:1], model=pipeline)
    (among,) = classify(video, LABELS, model=pipeline)
    assert alone.labels[0].probability == 1.0
    assert alone.labels[0].score == pytest.approx({s.label: s.score for s in among.labels}[LABELS[0]], abs=1e-6)


def test_classify_equals_the_model_called_by_hand(pipeline: VideoPipeline, clip_folder: Path) -> None:
    video = clip_folder / "red2.mp4"
    (result,) = classify(video, LABELS, model=pipeline, num_clips=2, template="a video of {}")
    texts = [f"a video of {label}" for label in LABELS] + list(BACKGROUND_TEXTS)
    clips = read_clips(video, ClipPlan(num_frames=4, num_clips=2))
    inputs = pipeline.processor(text=texts, videos=[c.frames_THWC for c in clips], return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = pipeline.model(**inputs).logits_per_video
    expected = logits[:, : len(LABELS)].softmax(-1).mean(0)
    assert {s.label: pytest.approx(s.probability, abs=1e-5) for s in result.labels} == dict(
        zip(LABELS, expected.tolist(), strict=True)
    )
    assert [s.probability for s in result.labels] == sorted((s.probability for s in result.labels), reverse=True)
    assert result.times == tuple(tuple(c.times_T.tolist()) for c in clips)


@pytest.mark.parametrize(("min_score", "outcome"), [(0.0, "best"), (1.0, NONE_OF_THESE)])
def test_min_score_decides_the_outcome(
    pipeline: VideoPipeline, clip_folder: Path, min_score: float, outcome: str
) -> None:
    (result,) = classify(clip_folder / "red2.mp4", LABELS, model=pipeline, min_score=min_score, top_k=2)
    assert len(result.labels) == 2
    assert result.outcome == (result.labels[0].label if outcome == "best" else NONE_OF_THESE)


def test_an_unreadable_file_has_a_result_with_an_error(
    pipeline: VideoPipeline, clip_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    paths = [clip_folder / "red2.mp4", tmp_path / "notes.mp4", "gone.mp4", clip_folder / "more" / "blue.mp4"]
    results = classify(paths, LABELS, model=pipeline)
    assert [r.path for r in results] == [str(p) for p in paths]
    assert [r.error is None for r in results] == [True, False, False, True]
    assert isinstance(results[2].error, VideoError)
    assert "gone.mp4" in str(results[2].error)
    assert results[1].outcome is None
    assert results[1].labels == ()


def test_folders_and_globs(pipeline: VideoPipeline, clip_folder: Path) -> None:
    names = [Path(r.path).name for r in classify(clip_folder, LABELS, model=pipeline)]
    assert names == ["blue.mp4", "red2.mp4", "red10.mp4"]  # 2 before 10
    names = [Path(r.path).name for r in classify(str(clip_folder / "red*.mp4"), LABELS, model=pipeline)]
    assert names == ["red2.mp4", "red10.mp4"]


def test_a_range_of_seconds(pipeline: VideoPipeline, clip_folder: Path) -> None:
    (result,) = classify(clip_folder / "red2.mp4", LABELS, model=pipeline, start=0.3, end=0.7)
    assert all(0.3 <= time < 0.7 for time in result.times[0])
    (late,) = classify(clip_folder / "red2.mp4", LABELS, model=pipeline, start=60)
    assert late.error is not None


def test_videos_may_be_bytes_and_files(pipeline: VideoPipeline, clip_folder: Path) -> None:
    classifier = Classifier(pipeline, LABELS)
    path = clip_folder / "red2.mp4"
    with path.open("rb") as file:
        results = list(classifier([path, path.read_bytes(), file]))
    assert len({r.labels for r in results}) == 1
    assert results[0].labels


def test_many_labels_are_encoded_in_chunks(pipeline: VideoPipeline) -> None:
    texts = [f"thing {i}" for i in range(150)]
    together = pipeline.encode_texts(texts)
    alone = torch.cat([pipeline.encode_texts([text]) for text in texts[::49]])
    assert together.shape == (150, 16)
    torch.testing.assert_close(together[::49], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([], {}, "no labels"),
        (["a", " "], {}, "label 2 of 2 is empty"),
        (["a", "b", "a "], {}, "'a' is given twice"),
        (["a"], {"template": "a video"}, "template 'a video'"),
        (["a"], {"min_score": 1.5}, "min_score=1.5"),
    ],
)
def test_impossible_labels_and_templates_are_refused(
    pipeline: VideoPipeline, clip_folder: Path, labels: list[str], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        classify(clip_folder, labels, model=pipeline, **options)  # type: ignore[arg-type]


def test_labels_must_be_a_list(pipeline: VideoPipeline, clip_folder: Path) -> None:
    with pytest.raises(TypeError, match="a list of texts"):
        classify(clip_folder, "cat, dog", model=pipeline)


def test_the_package_exports_classify() -> None:
    assert openxclip.classify is classify


def test_classify_has_the_parameters_of_iter_classify() -> None:
    listed, iterated = inspect.signature(classify), inspect.signature(iter_classify)
    assert listed.parameters == iterated.parameters
    assert listed.return_annotation == "list[Classification]"


def test_video_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "is empty")))
    assert (error.source, error.reason, str(error)) == ("a.mp4", "is empty", "a.mp4: is empty")


def test_missing_files_have_results_with_errors(pipeline: VideoPipeline, clip_folder: Path) -> None:
    names = ["", "a" * 300, "https://example.com/a.mp4", str(clip_folder / "red2.mp4")]
    results = classify(names, LABELS, model=pipeline)
    assert [r.error is None for r in results] == [False, False, False, True]
    assert results[2].path == names[2]
    assert "address" in str(results[2].error)


def test_globs_in_folders_with_brackets_and_at_home(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "take[1]"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(b"")
    assert find_videos([str(folder / "[a-z].mp4")]) == [folder / "a.mp4", folder / "b.mp4"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_videos(["~/take[1]/a.mp4"]) == [folder / "a.mp4"]
    assert find_videos([b"bytes"]) == [b"bytes"]


def test_a_model_in_training_mode_is_refused(tiny_folder: Path, clip_folder: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu")
    pipeline.model.train()
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        classify(clip_folder, LABELS, model=pipeline)


def test_features_take_part_in_training(pipeline: VideoPipeline, clip_folder: Path) -> None:
    (encoded,) = pipeline.encode_videos([clip_folder / "red2.mp4"])
    assert encoded.features is not None
    probe = torch.nn.Linear(16, 2)
    probe(encoded.features.pooled).sum().backward()
    probe(pipeline.encode_texts(LABELS)).sum().backward()
    assert probe.weight.grad is not None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k=0"),
        ({"start": 2.0, "end": 1.0}, ValueError, "end=1.0: must be after start=2"),
        ({"start": float("nan")}, ValueError, "start=nan"),
        ({"end": float("nan")}, ValueError, "end=nan"),
        ({"device": "cpu"}, ValueError, "can't be given with a pipeline, which has its own"),
    ],
)
def test_arguments_out_of_range_are_refused(
    pipeline: VideoPipeline, clip_folder: Path, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        classify(clip_folder, LABELS, model=pipeline, **options)  # type: ignore[arg-type]


def test_arguments_of_wrong_types_are_refused(pipeline: VideoPipeline, clip_folder: Path) -> None:
    with pytest.raises(TypeError, match=r"VideoPipeline\(model, processor\)"):
        classify(clip_folder, LABELS, model=pipeline.model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="in brackets"):
        Classifier(pipeline, LABELS)("clip.mp4")
    with pytest.raises(ValueError, match="list of one or more"):
        pipeline.encode_texts("abc")


def test_a_single_source_of_any_kind(pipeline: VideoPipeline, clip_folder: Path) -> None:
    path = clip_folder / "red2.mp4"
    with path.open("rb") as file:
        results = [classify(source, LABELS, model=pipeline)[0].labels for source in (path, path.read_bytes(), file)]
    assert results[0] == results[1] == results[2]


def test_arguments_are_checked_at_the_call_not_at_the_first_video(pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="end=1"):
        pipeline.encode_videos([], ClipPlan(start=2.0, end=1.0))
    with pytest.raises(ValueError, match="end=1"):
        classify([], LABELS, model=pipeline, start=2.0, end=1.0)
