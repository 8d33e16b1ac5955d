"""What X-CLIP is compared with: its towers alone, frame by frame, without messages, MIT and prompts (the paper's first
baseline, arXiv 2208.02816, §4.4).

With the weights that `XCLIPModel.from_clip` starts from this is CLIP itself. A message can't be silenced by weights: it
shares its key's projection with the frame's own tokens, and a softmax leaves no key without a share. So the blocks are
run here with the frame's own tokens alone.

Legend: B videos, T frames, N = B · T, P patches, K texts, D width, E joint width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from openxclip.model import XCLIPModel
from openxclip.model.vision import CrossFrameBlock


def frame_features(model: XCLIPModel, pixel_values_BTCHW: Tensor) -> Tensor:
    """CLIP's image features of each frame, as if it were alone.

    Args:
        model: its towers are used, and nothing else; gradients, drop path and gradient checkpointing are as in it.
        pixel_values_BTCHW: normalised frames.

    Returns:
        (B, T, E), not normalised.
    """
    tower = model.vision_model
    pixels_NCHW, num_frames = tower.split_frames(pixel_values_BTCHW)
    x_NLD = tower.embeddings(pixels_NCHW.to(tower.embeddings.patch_embedding.weight.dtype))
    x_NLD = tower.pre_layernorm(x_NLD)
    num_videos = x_NLD.shape[0] // num_frames
    for block in tower.encoder.layers:
        if tower.encoder.gradient_checkpointing and torch.is_grad_enabled():
            x_NLD = checkpoint(_without_message, block, x_NLD, num_videos, use_reentrant=False)
        else:
            x_NLD = _without_message(block, x_NLD, num_videos)  # type: ignore[arg-type]  # a list of modules forgets
    frames_NE = model.visual_projection(tower.post_layernorm(x_NLD[:, 0]))
    frames_BTE: Tensor = frames_NE.unflatten(0, (num_videos, num_frames))
    return frames_BTE


def mean_pooled_features(model: XCLIPModel, pixel_values_BTCHW: Tensor) -> Tensor:
    """CLIP's video features: the mean of its frames', not normalised before, as MIT's input isn't.

    Returns:
        (B, E), not normalised.
    """
    return frame_features(model, pixel_values_BTCHW).mean(dim=1)


def mean_pooled_logits(model: XCLIPModel, pixel_values_BTCHW: Tensor, text_features_KE: Tensor) -> Tensor:
    """CLIP's scores of videos: `exp(logit_scale) * cos(mean of frames, text)`.

    Args:
        model, pixel_values_BTCHW: see `frame_features`.
        text_features_KE: of `XCLIPModel.get_text_features`.

    Returns:
        (B, K).
    """
    return _logits(model, mean_pooled_features(model, pixel_values_BTCHW), text_features_KE)


def late_pooled_probabilities(model: XCLIPModel, pixel_values_BTCHW: Tensor, text_features_KE: Tensor) -> Tensor:
    """CLIP's verdict on each frame, averaged: the mean over frames of the softmax over texts.

    Args:
        model, pixel_values_BTCHW, text_features_KE: see `mean_pooled_logits`.

    Returns:
        (B, K), rows that sum to 1.
    """
    frames_BTE = frame_features(model, pixel_values_BTCHW)
    return _logits(model, frames_BTE, text_features_KE).softmax(dim=-1).mean(dim=1)


def _without_message(block: CrossFrameBlock, x_NLD: Tensor, num_videos: int) -> Tensor:
    """What `CrossFrameBlock` does but for the message among the keys."""
    attended_NLD, _ = block.self_attn(block.layer_norm1(x_NLD))
    x_NLD = x_NLD + block.drop_path(attended_NLD, num_videos)
    out_NLD: Tensor = x_NLD + block.drop_path(block.mlp(block.layer_norm2(x_NLD)), num_videos)
    return out_NLD


def _logits(model: XCLIPModel, video: Tensor, text_KE: Tensor) -> Tensor:
    logits: Tensor = model.logit_scale.exp() * F.normalize(video, dim=-1) @ F.normalize(text_KE, dim=-1).T
    return logits
