"""Evaluation of retrieval against the model called by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from logits_by_hand import logits_by_hand

from openxclip import OpenXCLIPError
from openxclip.datasets.samples import Dataset, Sample
from openxclip.evaluation.protocols import evaluate_retrieval
from openxclip.evaluation.results import EvaluationProtocol
from openxclip.evaluation.scoring import view_maker
from openxclip.pipeline import VideoPipeline


@pytest.fixture
def captions(clip_folder: Path, tmp_path: Path) -> Dataset:
    """Three videos with two, one and three texts, and an unreadable one with two."""
    (tmp_path / "notes.mp4").write_text("not a video")
    texts = [("red2.mp4", "a red wall"), ("more/blue.mp4", "the sea"), ("red10.mp4", "a dark red wall"),
             ("red2.mp4", "a bar"), ("red10.mp4", "night"), ("red10.mp4", "a wall at night")]  # fmt: skip
    samples = [Sample(str(clip_folder / name), text=text) for name, text in texts]
    samples[1:1] = [Sample(str(tmp_path / "notes.mp4"), text="a note")]
    samples.append(Sample(str(tmp_path / "notes.mp4"), text="a letter"))
    return Dataset("captioned", tuple(samples), root=str(clip_folder))


@pytest.mark.parametrize("use_prompts", [True, False])
def test_retrieval_by_hand(
    pipeline: VideoPipeline, captions: Dataset, use_prompts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openxclip.evaluation.scoring._TEXTS_AT_ONCE", 4)
    done: list[tuple[int, int]] = []
    results = evaluate_retrieval(
        pipeline, captions, use_prompts=use_prompts, on_progress=lambda number, total: done.append((number, total))
    )
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [(error.index, error.sample) for error in results.errors] == [(1, "notes.mp4"), (7, "notes.mp4 #2")]
    assert results.classes == ("red2.mp4", "more/blue.mp4", "red10.mp4")
    known = [0, 2, 3, 4, 5, 6]
    videos = [captions.samples[i] for i in (0, 2, 3)]
    columns = []
    for video in videos:
        if use_prompts:
            texts = pipeline.encode_texts([captions.samples[i].text or "" for i in known])
            columns.append(logits_by_hand(pipeline, video, texts)[0])
        else:
            features = next(pipeline.encode_parts([video], view_maker(pipeline, 1))).features
            assert features is not None
            texts = pipeline.encode_texts([captions.samples[i].text or "" for i in known])
            scale = pipeline.model.logit_scale.detach().exp()
            columns.append(scale * F.cosine_similarity(features.pooled, texts))
    similarity = torch.stack(columns, dim=1)
    of = [0, 1, 2, 0, 2, 2]
    own = similarity.gather(1, torch.tensor(of)[:, None])
    ranks = (similarity > own).sum(dim=1) + 1
    assert results.metrics["text_to_video"] == {
        "R@1": pytest.approx((ranks == 1).float().mean().item()),
        "MdR": pytest.approx(np.median(ranks.numpy())),
    }
    backwards = []
    for video_number in range(3):
        mine = torch.tensor([number == video_number for number in of])
        column = similarity[:, video_number]
        backwards.append(int((column[~mine] > column[mine].max()).sum()) + 1)
    assert results.metrics["video_to_text"]["MdR"] == np.median(backwards)
    assert results.metrics["video_to_text"]["R@1"] == pytest.approx(np.mean([rank == 1 for rank in backwards]))
    for row, number, prediction, index in zip(similarity, of, results.predictions, known, strict=True):
        assert (prediction.index, prediction.label) == (index, number)
        assert prediction.probability == pytest.approx(row.double().softmax(dim=0)[number].item(), abs=1e-5)
        assert [video for video, _ in prediction.top] == row.argsort(descending=True).tolist()
    assert results.protocol == EvaluationProtocol(1, 1, 4, ("{}",), use_prompts=use_prompts)
    assert "text_to_video R@1 " in str(results)


def test_retrieval_by_a_collapsed_model(tiny_folder: Path, captions: Dataset) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False, precision=None)
    with torch.no_grad():
        pipeline.model.logit_scale.fill_(-torch.inf)  # every score is 0
    results = evaluate_retrieval(pipeline, captions)
    assert results.metrics["text_to_video"] == {"R@1": 0.0, "MdR": 3.0}
    assert results.metrics["video_to_text"]["R@1"] == 0.0
    assert not any(prediction.is_right() for prediction in results.predictions)


def test_invalid_retrieval_is_refused(pipeline: VideoPipeline, captions: Dataset) -> None:
    first, unreadable = captions.samples[0], captions.samples[1]
    with pytest.raises(OpenXCLIPError, match=r"1 videos to choose from, but two are needed: notes\.mp4: "):
        evaluate_retrieval(pipeline, replace(captions, samples=(first, unreadable)))
    with pytest.raises(ValueError, match="has no samples"):
        evaluate_retrieval(pipeline, replace(captions, samples=()))
    for text in (None, " "):
        with pytest.raises(ValueError, match="has no text, which retrieval needs"):
            evaluate_retrieval(pipeline, replace(captions, samples=(replace(first, text=text),)))
    with pytest.raises(ValueError, match="no confusion matrix"):
        evaluate_retrieval(pipeline, captions).confusion_matrix()
