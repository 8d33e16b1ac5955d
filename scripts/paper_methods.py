"""The methods that paper.py compares (arXiv 2208.02816, §4.4 and its tables). All start from the same weights.

mean: CLIP's frame features are averaged.
late: the probabilities of CLIP's frames are averaged.
cross-frame: as "mean", but frames exchange messages.
mit: frames exchange messages, and MIT combines them.
vectors: as "mit", with learned vectors before each class name (CoOp, arXiv 2109.01134).
x-clip: as "mit", with video-specific prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from paper_baselines import late_pooled_probabilities, mean_pooled_logits
from torch import Tensor, nn

from openxclip.model import XCLIPModel

METHODS = ("mean", "late", "cross-frame", "mit", "vectors", "x-clip")
VECTORS = 4


def prepare(model: XCLIPModel, method: str) -> None:
    """Add the parameters that a method has and X-CLIP hasn't."""
    if method == "vectors":  # a name with "prompts_" gets the learning rate of fresh parameters
        width = model.config.text_config.hidden_size
        model.prompts_vectors = nn.Parameter(0.02 * torch.randn(VECTORS, width))


def text_features(model: XCLIPModel, method: str, ids_KL: Tensor) -> Tensor:
    """Return text features (K, E)."""
    if method != "vectors":
        return model.get_text_features(ids_KL)
    tower = model.text_model
    token_KLD = tower.embeddings.token_embedding(ids_KL)
    vectors_KMD = model.prompts_vectors.expand(len(ids_KL), -1, -1)
    x_KLD = torch.cat([token_KLD[:, :1], vectors_KMD, token_KLD[:, 1:]], dim=1)  # after the start token
    x_KLD = x_KLD + tower.embeddings.position_embedding.weight[: x_KLD.shape[1]]
    last_KLD = tower.final_layer_norm(tower.encoder(x_KLD, is_causal=True).last_hidden_state)
    return model.text_projection(last_KLD[torch.arange(len(ids_KL)), ids_KL.argmax(-1) + VECTORS])


def logits(model: XCLIPModel, method: str, pixels_BTCHW: Tensor, text_KE: Tensor) -> Tensor:
    """Return logits (B, K)."""
    if method == "mean":
        return mean_pooled_logits(model, pixels_BTCHW, text_KE)
    if method == "late":
        return late_pooled_probabilities(model, pixels_BTCHW, text_KE).clamp(min=1e-9).log()
    if method == "x-clip":
        return model(text_features=text_KE, pixel_values=pixels_BTCHW).logits_per_video
    if method == "cross-frame":
        pooled_ND = model.vision_model(pixels_BTCHW).pooler_output
        video_BE = model.visual_projection(pooled_ND).unflatten(0, pixels_BTCHW.shape[:2]).mean(1)
    else:
        video_BE = model.get_video_features(pixels_BTCHW)
    return model.logit_scale.exp() * F.normalize(video_BE, dim=-1) @ F.normalize(text_KE, dim=-1).T
