"""Build the parts of a model for inference, and compare the answers of each part with the plain model's."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from openxclip.engine.linears import Kernel
from openxclip.engine.towers import Integration, Prompts, TextTower, VisionTower
from openxclip.model import XCLIPModel


class VideoParts(NamedTuple):
    """The video tower and MIT."""

    tower: VisionTower
    integration: Integration


Part: TypeAlias = VideoParts | TextTower | Prompts


def build_video(model: XCLIPModel, kernel: Kernel) -> tuple[VideoParts, float]:
    """Return the video tower with MIT, and the relative error of its answer."""
    vision = model.vision_model
    # Two frames of 2 x 2 patches go through every weight, and cost about as much as reading the weights.
    side, channels = 2 * vision.embeddings.patch_size, model.config.vision_config.num_channels
    frames = _random(2, channels, side, side, like=model.logit_scale)
    plain = _PlainBlocks(vision.pre_layernorm(vision.embeddings(frames, True)), num_frames=2)
    tower, integration = VisionTower(model, kernel, after_block=plain.run), Integration(model, kernel)
    last, pooled = tower(frames, 2, vision.embeddings.positions(side, side, interpolate=True))
    features, patches = tower.project(last, pooled, 2)
    trained_frames = model.mit.position_embedding.shape[1]
    frames_1TE = features[:, :1].expand(-1, trained_frames, -1).contiguous()
    integrated = integration(frames_1TE, model.mit.positions(trained_frames))[1]
    plain_pooled = vision.post_layernorm(plain.states[:, 0])
    plain_normed = model.prompts_visual_layernorm(plain.states[:, 1:])
    plain_patches = plain_normed.mean(0, keepdim=True) @ model.prompts_visual_projection
    error = max(
        _relative_error(last, plain.states),
        _relative_error(features[0], model.visual_projection(plain_pooled)),
        _relative_error(patches, plain_patches),
        _relative_error(integrated, model.mit(frames_1TE.to(model.dtype)).pooler_output),
    )
    return VideoParts(tower, integration), error


def build_text(model: XCLIPModel, kernel: Kernel) -> tuple[TextTower, float]:
    """Return the text tower, and the relative error of its answer."""
    config = model.config.text_config
    ids = torch.zeros(2, min(6, config.max_position_embeddings), dtype=torch.long, device=model.device)
    ids[0, -1] = ids[1, ids.shape[1] // 2] = config.vocab_size - 1  # two lengths
    ends = ids.argmax(-1)
    plain = _PlainBlocks(model.text_model.embeddings(ids), is_causal=True)
    tower = TextTower(model, kernel, after_block=plain.run)
    plain_states = model.text_model.final_layer_norm(plain.states)
    plain_features = model.text_projection(plain_states[torch.arange(2, device=ids.device), ends])
    return tower, _relative_error(tower(ids, ends), plain_features)


def build_prompts(model: XCLIPModel, kernel: Kernel) -> tuple[Prompts, float]:
    """Return the prompt generator, and the relative error of its answers."""
    prompts = Prompts(model, kernel)
    errors = []
    for num_texts, num_patches in ((3, 4), (1, 32)):  # both ways to attend
        text = _random(1, num_texts, model.config.projection_dim, like=model.logit_scale)
        patches = _random(1, num_patches, model.config.projection_dim, like=model.logit_scale)
        answer = prompts(text.float(), patches.float(), prompts.queries(text.float()))
        errors.append(_relative_error(answer, model.prompts_generator(text, patches)))
    return prompts, max(errors)


class _PlainBlocks:
    """Runs plain blocks one after another while they are copied, so that each block's weights are read only once.

    Attributes:
        states: the input of the next block.
    """

    def __init__(self, states: Tensor, **options: Any) -> None:
        self.states, self._options = states, options

    def run(self, block: nn.Module) -> None:
        """Replace the states by the block's output."""
        self.states = block(self.states, **self._options)[0]


def _random(*shape: int, like: Tensor) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(0), device="cpu", dtype=torch.float32)
    return values.to(device=like.device, dtype=like.dtype)


def _relative_error(answer: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference over the norm of the expected answer."""
    return float((answer.float() - expected.float()).norm() / expected.float().norm().clamp(min=1e-20))
