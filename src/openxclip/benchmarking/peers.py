"""Run transformers' XCLIPModel with our weights, as its documentation does and as an expert would."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openxclip.checkpoints.released import RELEASED, config_of_released
from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel

PRESETS: dict[str, dict[str, Any]] = {
    released.name.removeprefix("microsoft/xclip-"): config_of_released(released).to_dict()
    for released in RELEASED
    if released.name in {f"microsoft/xclip-{name}" for name in ("base-patch32", "base-patch16", "large-patch14")}
}


def random_model(name: str) -> XCLIPModel:
    """Return a model of a released architecture with random weights, which cost as much as trained ones."""
    torch.manual_seed(0)
    return XCLIPModel(XCLIPConfig.from_dict(PRESETS[name])).eval()


class Peer:
    """transformers' model with our weights.

    Raises:
        ImportError: transformers isn't installed.
    """

    def __init__(self, model: XCLIPModel) -> None:
        import transformers

        config = transformers.XCLIPConfig.from_dict(model.config.to_dict())
        self.model: Any = transformers.XCLIPModel(config).eval()
        missing, unexpected = self.model.load_state_dict(model.state_dict(), strict=False)
        assert not unexpected
        assert all("position_ids" in name for name in missing), missing

    def video(self, pixels_BTCHW: Tensor) -> Tensor:
        """Return video features (B, E)."""
        return _features(self.model.get_video_features(pixels_BTCHW))

    def text(self, ids_KL: Tensor) -> Tensor:
        """Return text features (K, E)."""
        return _features(self.model.get_text_features(ids_KL))

    def score_by_parts(self, pixels_BTCHW: Tensor, text_KE: Tensor) -> Tensor:
        """Return `logits_per_video` from cached text features, which the model's `forward` doesn't accept."""
        model, batch, frames = self.model, *pixels_BTCHW.shape[:2]
        vision = model.vision_model(pixels_BTCHW.flatten(0, 1))
        video_BE = model.mit(model.visual_projection(vision.pooler_output).view(batch, frames, -1))[1]
        patches = model.prompts_visual_layernorm(vision.last_hidden_state[:, 1:]) @ model.prompts_visual_projection
        patches_BPE = patches.view(batch, frames, -1, video_BE.shape[-1]).mean(1)
        text_BKE = text_KE.expand(batch, -1, -1)
        text_BKE = text_BKE + model.prompts_generator(text_BKE, patches_BPE)
        text_BKE = text_BKE / text_BKE.norm(dim=-1, keepdim=True)
        video_BE = video_BE / video_BE.norm(dim=-1, keepdim=True)
        return torch.einsum("be,bke->bk", video_BE, model.logit_scale.exp() * text_BKE)


def _features(output: Any) -> Tensor:
    features: Tensor = getattr(output, "pooler_output", output)  # transformers 5 returns an object, 4 a tensor
    return features
