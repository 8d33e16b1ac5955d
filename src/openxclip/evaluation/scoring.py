"""Compute views, text features and scores as in the paper's evaluation (arXiv 2208.02816, section 4.1).

Shapes: V views of a video, T frames, K classes or texts, M templates, E joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.processing import VideoProcessor
from openxclip.processing.texts import check_distinct
from openxclip.video import crop_boxes, rescaled

_TEXTS_AT_ONCE = 1024  # limits memory, because each text gets its own prompt for each view


def class_features(pipeline: VideoPipeline, classes: Sequence[str], templates: Sequence[str] = ("{}",)) -> Tensor:
    """Return the text features (K, E) of classes, before any prompt.

    With one template, they are the features of the classes' texts, as in training. With several, each class gets the
    mean of its features' directions, as in CLIP (arXiv 2103.00020, section 3.1.4), with the features' mean length,
    because the prompts were trained with features of such lengths.

    Raises:
        ValueError: there are no templates, a template doesn't contain `{}` exactly once, or two classes have texts that
            the model can't distinguish.
    """
    if isinstance(templates, str) or not templates:
        raise ValueError(f"templates={templates!r}: must be a list of one or more templates.")
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r}: must have {{}} once, where the class goes.")
    texts = []
    for template in templates:
        class_texts = [template.replace("{}", name) for name in classes]
        check_distinct(pipeline.processor.tokenizer, class_texts, "class name")
        texts += class_texts
    features = pipeline.encode_texts(texts, what="class name")
    if len(templates) == 1:
        return features
    features_MKE: Tensor = features.unflatten(0, (len(templates), len(classes)))
    lengths_MK1 = features_MKE.float().norm(dim=-1, keepdim=True)
    mean_KE = F.normalize((features_MKE.float() / lengths_MK1).mean(dim=0), dim=-1)
    scaled_KE: Tensor = mean_KE * lengths_MK1.mean(dim=0)
    return scaled_KE.to(features.dtype)


def view_maker(pipeline: VideoPipeline, num_crops: int) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function that makes the views of a clip's frames, for `VideoPipeline.encode_parts`.

    See `protocols.evaluate` for the crops.

    Raises:
        ValueError: `num_crops` is neither 1 nor 3.
    """
    processor, size = pipeline.processor.image_processor, pipeline.model.config.vision_config.image_size
    if num_crops == 1:
        return partial(_crop_centre, processor, size)
    if num_crops == 3:
        return partial(_crop_three, processor, size)
    raise ValueError(f"num_crops={num_crops}: must be 1 (the centre) or 3 (along the longer side).")


def _crop_centre(processor: VideoProcessor, size: int, frames_TCHW: Tensor) -> list[Tensor]:
    resizing = _with_resize(processor, size * 256 // 224, frames_TCHW)
    return [resizing.replace(do_center_crop=True, crop_size=size).levels(frames_TCHW)]


def _crop_three(processor: VideoProcessor, size: int, frames_TCHW: Tensor) -> list[Tensor]:
    levels_TCHW = _with_resize(processor, size, frames_TCHW).levels(frames_TCHW)
    height, width = levels_TCHW.shape[-2:]
    boxes = crop_boxes(height=height, width=width, size=size)
    return [levels_TCHW[..., box.top : box.top + size, box.left : box.left + size] for box in boxes]


def _with_resize(processor: VideoProcessor, short_side: int, frames_TCHW: Tensor) -> VideoProcessor:
    """Return the processor with a resize for these frames' size, rounded as in the paper's code (see `rescaled`)."""
    height, width = rescaled(height=frames_TCHW.shape[-2], width=frames_TCHW.shape[-1], short_side=short_side)
    return processor.replace(do_resize=True, size={"height": height, "width": width}, do_center_crop=False)


@torch.no_grad()
def score_views(pipeline: VideoPipeline, text_KE: Tensor, features: VideoFeatures, *, use_prompts: bool) -> Tensor:
    """Return the logits (V, K) of one video's views. Without prompts, they are scaled cosines with the plain texts."""
    if use_prompts:
        return torch.cat([pipeline.score(chunk, features) for chunk in text_KE.split(_TEXTS_AT_ONCE)], dim=1)
    video_VE, text_KE = F.normalize(features.pooled.float(), dim=-1), F.normalize(text_KE.float(), dim=-1)
    return pipeline.model.logit_scale.float().exp() * (video_VE @ text_KE.T)


def check_finite(logits: Tensor, name: str) -> Tensor:
    """Check that logits are finite, and return them in float64 on the CPU.

    Args:
        logits: the model's scores.
        name: name of the video or dataset in error messages.

    Raises:
        ValueError: a logit is NaN or infinite.
    """
    if not logits.isfinite().all():
        raise ValueError(f"{name}: the model's scores are not finite numbers; its weights may have diverged.")
    return logits.cpu().double()
