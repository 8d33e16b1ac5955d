"""The evaluated classes, and logits by calling the model by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openxclip.datasets.samples import Sample
from openxclip.pipeline import VideoPipeline
from openxclip.video import ClipPlan, read_clips

CLASSES = ("a red wall", "the sea", "juggling", "a blue wall", "nobody", "chess", "a dog")


def logits_by_hand(
    pipeline: VideoPipeline, sample: Sample, texts: Tensor, *, num_clips: int = 1, num_crops: int = 1, **reading: Any
) -> Tensor:
    """(views, K) logits with the paper's crops of 32 × 32 from frames of 64 × 48."""
    clips = read_clips(
        sample.source, ClipPlan(num_frames=4, num_clips=num_clips, start=sample.start, end=sample.end), **reading
    )
    boxes, size = ([(2, 8)], (36, 48)) if num_crops == 1 else ([(0, 0), (0, 5), (0, 10)], (32, 43))
    views = []
    for clip in clips:
        whole = pipeline.processor.image_processor.replace(size=size, do_center_crop=False)
        values = whole([clip.frames_THWC], return_tensors="pt").pixel_values[0]
        assert values.shape[-2:] == size
        views += [values[..., top : top + 32, left : left + 32] for top, left in boxes]
    with torch.no_grad():
        features = pipeline.model.encode_video(torch.stack(views))
        logits: Tensor = pipeline.model(text_features=texts, video_features=features).logits_per_video
    return logits
