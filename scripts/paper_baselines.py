"""The baselines of the paper: CLIP's towers frame by frame, without messages, MIT and prompts (arXiv 2208.02816, §4.4).

With the weights that `XCLIPModel.from_clip` starts from, this is CLIP itself. No weights can silence the messages: a
message shares its key's projection with the frame's own tokens, and a softmax gives every key a share. So the blocks
run here with the frame's own tokens only.

Shapes: B videos, T frames, N = B · T, P patches, K texts, D width, E joint width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from openxclip.model import XCLIPModel
from openxclip.model.vision import CrossFrameBlock


def frame_features(model: XCLIPModel, pixel_values_BTCHW: Tensor) -> Tensor:
    """Return CLIP's image features of each frame by itself: (B, T, E), not normalised.

    Args:
        model: only its towers are used, with their drop path.
        pixel_values_BTCHW: normalised frames.
    """
    tower = model.vision_model
    pixels_NCHW, num_frames = tower.split_frames(pixel_values_BTCHW)
    x_NLD = tower.embeddings(pixels_NCHW.to(tower.embeddings.patch_embedding.weight.dtype))
    x_NLD = tower.pre_layernorm(x_NLD)
    num_videos = x_NLD.shape[0] // num_frames
    for block in tower.encoder.layers:
        x_NLD = _run_without_message(block, x_NLD, num_videos)
    frames_NE = model.visual_projection(tower.post_layernorm(x_NLD[:, 0]))
    return frames_NE.unflatten(0, (num_videos, num_frames))


def mean_pooled_features(model: XCLIPModel, pixel_values_BTCHW: Tensor) -> Tensor:
    """Return the mean of a video's frame features: (B, E), not normalised before or after, as MIT's input."""
    return frame_features(model, pixel_values_BTCHW).mean(dim=1)


def mean_pooled_logits(model: XCLIPModel, pixel_values_BTCHW: Tensor, text_features_KE: Tensor) -> Tensor:
    """Return `exp(logit_scale) * cos(mean of frames, text)`: (B, K).

    Args:
        model, pixel_values_BTCHW: see `frame_features`.
        text_features_KE: from `XCLIPModel.get_text_features`.
    """
    return _logits(model, mean_pooled_features(model, pixel_values_BTCHW), text_features_KE)


def late_pooled_probabilities(model: XCLIPModel, pixel_values_BTCHW: Tensor, text_features_KE: Tensor) -> Tensor:
    """Return the mean over frames of each frame's softmax over the texts: (B, K), rows that sum to 1.

    Args:
        model, pixel_values_BTCHW, text_features_KE: see `mean_pooled_logits`.
    """
    frames_BTE = frame_features(model, pixel_values_BTCHW)
    return _logits(model, frames_BTE, text_features_KE).softmax(dim=-1).mean(dim=1)


def _run_without_message(block: CrossFrameBlock, x_NLD: Tensor, num_videos: int) -> Tensor:
    """Run a `CrossFrameBlock` without the message among its keys."""
    attended_NLD, _ = block.self_attn(block.layer_norm1(x_NLD))
    x_NLD = x_NLD + block.drop_path(attended_NLD, num_videos)
    return x_NLD + block.drop_path(block.mlp(block.layer_norm2(x_NLD)), num_videos)


def _logits(model: XCLIPModel, video: Tensor, text_KE: Tensor) -> Tensor:
    return model.logit_scale.exp() * F.normalize(video, dim=-1) @ F.normalize(text_KE, dim=-1).T
