"""The model's part of a search: scores with prompts of what an index holds, and the features of a video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from openxclip.errors import VideoIndexError
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.recognition.background import share_against_neutral
from openxclip.search.packing import unpack
from openxclip.video import VideoSource
from openxclip.video.sampling import Sampling

_SCORED_AT_ONCE = 512


def cosines_with_prompts(pipeline: VideoPipeline, text_1E: Tensor, rows: Sequence[dict[str, Any]]) -> list[float]:
    """The cosine of each of the store's rows and a text with the prompts that the row's video makes."""
    logits_N1 = _logits_with_prompts(pipeline, text_1E, rows)
    cosines: list[float] = (logits_N1[:, 0] / _scale(pipeline)).tolist()
    return cosines


def scores_of_rows(
    pipeline: VideoPipeline, texts_KE: Tensor, rows: Sequence[dict[str, Any]], *, prompts: bool
) -> list[float]:
    """The share of a text against the neutral texts, for each of the store's rows.

    Args:
        pipeline: the model.
        texts_KE: features of the text, then of the neutral texts.
        rows: with `embedding`, and with `patches` for prompts.
        prompts: whether the texts get the prompts that the row's video makes.
    """
    if not rows:
        return []
    if prompts:
        logits_NK = _logits_with_prompts(pipeline, texts_KE, rows)
    else:
        embeddings_NE = torch.from_numpy(np.array([row["embedding"] for row in rows], dtype=np.float32))
        texts_KE = F.normalize(texts_KE.float(), dim=1).cpu()
        logits_NK = _scale(pipeline) * F.normalize(embeddings_NE, dim=1) @ texts_KE.T
    scores: list[float] = share_against_neutral(logits_NK[:, :1], logits_NK[:, 1:])[:, 0].tolist()
    return scores


def _logits_with_prompts(pipeline: VideoPipeline, texts_KE: Tensor, rows: Sequence[dict[str, Any]]) -> Tensor:
    """(N, K), on the CPU."""
    vision, width = pipeline.model.config.vision_config, pipeline.model.config.projection_dim
    number = (vision.image_size // vision.patch_size) ** 2
    logits = [torch.zeros(0, len(texts_KE), device="cpu")]
    for start in range(0, len(rows), _SCORED_AT_ONCE):
        part = rows[start : start + _SCORED_AT_ONCE]
        pooled_CE = np.array([row["embedding"] for row in part], dtype=np.float32)
        patches_CPE = np.stack([_patches(row, width, number) for row in part])
        features = VideoFeatures(*(torch.from_numpy(array).to(texts_KE) for array in (pooled_CE, patches_CPE)))
        logits.append(pipeline.score(texts_KE, features).cpu())
    return torch.cat(logits)


def _scale(pipeline: VideoPipeline) -> float:
    """By which the model multiplies cosines."""
    return float(pipeline.model.logit_scale.detach().float().exp())


def feature_of(
    pipeline: VideoPipeline,
    video: VideoSource,
    *,
    start: float | None,
    end: float | None,
    num_frames: int,
    sampling: Sampling,
    fps: float | None = None,
) -> Tensor:
    """(E,), of a video, or of the part of it between two times in seconds.

    Raises:
        VideoError: it can't be read.
    """
    (encoded,) = pipeline.encode_videos(
        [video], num_frames=num_frames, sampling=sampling, start=start, end=end, fps=fps
    )
    if encoded.error is not None:
        raise encoded.error
    assert encoded.features is not None
    return encoded.features.pooled[0]


def _patches(row: dict[str, Any], width: int, number: int) -> NDArray[np.float32]:
    try:
        return unpack(row["patches"], width, number)
    except (OSError, ValueError) as error:
        raise VideoIndexError(
            f"{row['path']}: its patches in the index are damaged: remove it, and index it again."
        ) from error
