"""Score stored windows with the model."""

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
from openxclip.search.patches import decompress_patches

_BATCH = 512  # windows


def cosines_with_prompts(pipeline: VideoPipeline, text_1E: Tensor, rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the cosine of each window, a row of the store, and the text with the prompts for that window's video."""
    logits_N1 = _logits_with_prompts(pipeline, text_1E, rows)
    cosines: list[float] = (logits_N1[:, 0] / _logit_scale(pipeline)).tolist()
    return cosines


def score_rows(
    pipeline: VideoPipeline, texts_KE: Tensor, rows: Sequence[dict[str, Any]], *, prompts: bool
) -> list[float]:
    """Return the text's share against the neutral texts for each window, a row of the store.

    Args:
        pipeline: the model.
        texts_KE: features of the text, and then of the neutral texts.
        rows: rows with `embedding`, and with `patches` if `prompts` is set.
        prompts: adds video-specific prompts to the texts.
    """
    if not rows:
        return []
    logits_NK = logits_of_rows(pipeline, texts_KE, rows, prompts=prompts)
    scores: list[float] = share_against_neutral(logits_NK[:, :1], logits_NK[:, 1:])[:, 0].tolist()
    return scores


def logits_of_rows(
    pipeline: VideoPipeline, texts_KE: Tensor, rows: Sequence[dict[str, Any]], *, prompts: bool
) -> Tensor:
    """Return the logits (N, K), on the CPU, of one or more windows, which are rows of the store, for K texts.

    Args:
        pipeline, texts_KE, rows, prompts: see `score_rows`.
    """
    if prompts:
        return _logits_with_prompts(pipeline, texts_KE, rows)
    embeddings_NE = torch.from_numpy(np.array([row["embedding"] for row in rows], dtype=np.float32))
    texts_KE = F.normalize(texts_KE.float(), dim=1).cpu()
    return _logit_scale(pipeline) * F.normalize(embeddings_NE, dim=1) @ texts_KE.T


def _logits_with_prompts(pipeline: VideoPipeline, texts_KE: Tensor, rows: Sequence[dict[str, Any]]) -> Tensor:
    """Return logits (N, K) on the CPU."""
    vision, width = pipeline.model.config.vision_config, pipeline.model.config.projection_dim
    num_patches = (vision.image_size // vision.patch_size) ** 2
    logits = [torch.zeros(0, len(texts_KE), device="cpu")]
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        pooled_CE = np.array([row["embedding"] for row in batch], dtype=np.float32)
        patches_CPE = np.stack([_patches(row, width, num_patches) for row in batch])
        features = VideoFeatures(*(torch.from_numpy(array).to(texts_KE) for array in (pooled_CE, patches_CPE)))
        logits.append(pipeline.score(texts_KE, features).cpu())
    return torch.cat(logits)


def _patches(row: dict[str, Any], width: int, num_patches: int) -> NDArray[np.float32]:
    try:
        return decompress_patches(row["patches"], width, num_patches)
    except (OSError, ValueError) as error:
        raise VideoIndexError(
            f"{row['path']}: the video's patches in the index are damaged: remove the video, and index it again."
        ) from error


def _logit_scale(pipeline: VideoPipeline) -> float:
    return float(pipeline.model.logit_scale.detach().float().exp())
