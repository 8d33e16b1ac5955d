"""The pipeline optimises its model, unless it is told not to."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

import openxclip
from openxclip import OptimizedXCLIPModel, VideoPipeline, XCLIPModel, XCLIPProcessor
from openxclip.engine.linears import can_pack


def test_a_pipeline_optimises_its_model(tiny_folder: Path, clip_folder: Path) -> None:
    loaded = VideoPipeline.from_pretrained(tiny_folder, precision="fp32", isolate=False)
    assert isinstance(loaded.model, OptimizedXCLIPModel)
    plain = VideoPipeline.from_pretrained(tiny_folder, precision=None, isolate=False)
    assert type(plain.model) is XCLIPModel
    model = XCLIPModel.from_pretrained(tiny_folder)
    made = VideoPipeline(model, XCLIPProcessor.from_pretrained(tiny_folder), isolate=False)
    assert isinstance(made.model, OptimizedXCLIPModel)
    assert made.model.plain is model
    for pipeline in (loaded, made):
        for ours, right in zip(pipeline.encode_videos([clip_folder / "red2.mp4"]),
                               plain.encode_videos([clip_folder / "red2.mp4"]), strict=True):  # fmt: skip
            assert ours.features is not None
            assert right.features is not None
            assert (ours.features.pooled - right.features.pooled).abs().max() < 1e-4
        assert (pipeline.encode_texts(["a", "b c"]) - plain.encode_texts(["a", "b c"])).abs().max() < 1e-4


def test_precision_cannot_be_given_with_a_pipeline(tiny_folder: Path, clip_folder: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, isolate=False)
    with pytest.raises(ValueError, match="precision and isolate can't be given with a pipeline"):
        openxclip.classify(clip_folder, ["a", "b"], model=pipeline, precision="fp32")
    with pytest.raises(ValueError, match="precision='int4': must be one of auto"):
        openxclip.classify(clip_folder, ["a", "b"], model=tiny_folder, precision="int4")  # type: ignore[arg-type]
    expected = nullcontext() if can_pack(torch.bfloat16) else pytest.warns(UserWarning, match="no bf16 products")
    with expected:
        (first, *_) = openxclip.classify(
            clip_folder / "red2.mp4", ["a", "b"], model=tiny_folder, precision="bf16", device="cpu"
        )
    assert first.error is None
