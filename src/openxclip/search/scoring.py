"""The model's part of a search: scores with prompts of what an index holds, and the features of a video."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openxclip.errors import VideoIndexError
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.search.packing import unpack
from openxclip.video import VideoSource

_SCORED_AT_ONCE = 512


def with_prompts(pipeline: VideoPipeline, text_1E: Tensor, rows: list[Any]) -> list[float]:
    """The cosine of each of the store's rows and a text with the prompts that the row's video makes."""
    vision, width = pipeline.model.config.vision_config, pipeline.model.config.projection_dim
    number = (vision.image_size // vision.patch_size) ** 2
    scores: list[float] = []
    for start in range(0, len(rows), _SCORED_AT_ONCE):
        part = rows[start : start + _SCORED_AT_ONCE]
        pooled_CE = np.array([row["embedding"] for row in part], dtype=np.float32)
        patches_CPE = np.stack([_patches(row, width, number) for row in part])
        features = VideoFeatures(*(torch.from_numpy(array).to(text_1E) for array in (pooled_CE, patches_CPE)))
        cosine_C = pipeline.score(text_1E, features)[:, 0] / pipeline.model.logit_scale.detach().exp()
        scores += cosine_C.tolist()
    return scores


def feature_of(pipeline: VideoPipeline, video: VideoSource, num_frames: int) -> Tensor:
    """(E,), of the whole of a video."""
    (encoded,) = pipeline.encode_videos([video], num_frames=num_frames)
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
