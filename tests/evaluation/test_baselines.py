"""The baselines of scripts/ equal CLIP of transformers, and X-CLIP with everything beyond CLIP silenced."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "scripts"))

from made_models import clip_model, without_message
from paper_baselines import (
    frame_features,
    late_pooled_probabilities,
    mean_pooled_features,
    mean_pooled_logits,
)
from peers import quiet_transformers

from openxclip import XCLIPModel

# (sizes of the CLIP, videos, frames, texts)
SHAPES: list[tuple[dict[str, Any], int, int, int]] = [
    ({}, 2, 4, 3),
    ({"image_size": 35, "patch": 7, "vision_layers": 3, "act": "gelu"}, 1, 5, 1),
    ({"image_size": 48, "patch": 16, "vision_width": 192, "vision_heads": 3, "joint": 128}, 3, 1, 7),
    ({"image_size": 27, "patch": 9, "vision_layers": 1, "text_layers": 3, "text_width": 128, "text_heads": 2}, 5, 3, 2),
]
SOME_SHAPES = [SHAPES[1], *(pytest.param(*shape, marks=pytest.mark.slow) for shape in (SHAPES[0], *SHAPES[2:]))]


def started(folder: Path, num_frames: int, **settings: Any) -> tuple[XCLIPModel, Any]:
    """An X-CLIP from a CLIP of random weights, and that CLIP of transformers."""
    clip = clip_model(**settings)
    with quiet_transformers():
        clip.save_pretrained(folder)
    return XCLIPModel.from_clip(folder, num_frames=num_frames, seed=0), clip


def inputs(model: XCLIPModel, videos: int, frames: int, texts: int) -> tuple[Tensor, Tensor]:
    size = model.config.vision_config.image_size
    ids = torch.randint(1, 90, (texts, 6))
    ids[:, -1] = 98  # the highest is the end of text
    return torch.randn(videos, frames, 3, size, size), ids


@contextmanager
def silenced(model: XCLIPModel) -> Iterator[None]:
    """Silence everything that X-CLIP adds to CLIP.

    Zero weights silence the prompts and MIT: alpha is 0, and so are MIT's branches and positions, which leaves twice
    the mean of its input, in the same direction. Weights can't silence messages, because attention gives no key the
    weight 0. So each block's attention is patched to leave the message out.
    """
    with torch.no_grad():
        model.prompts_generator.alpha.zero_()
        model.mit.position_embedding.zero_()
        for block in model.mit.encoder.layers:
            for last in (block.self_attn.out_proj, block.mlp.fc2):  # type: ignore[union-attr]
                last.weight.zero_()  # type: ignore[union-attr,operator]
                last.bias.zero_()  # type: ignore[union-attr,operator]
    attentions: list[Any] = [block.self_attn for block in model.vision_model.encoder.layers]
    for attention in attentions:
        attention.forward = partial(without_message, attention)
    yield
    for attention in attentions:
        del attention.forward


def clip_frames(clip: Any, pixels: Tensor) -> Tensor:
    pooled = clip.vision_model(pixels.flatten(0, 1)).pooler_output
    return clip.visual_projection(pooled).unflatten(0, pixels.shape[:2])


@pytest.mark.parametrize(("settings", "videos", "frames", "texts"), SOME_SHAPES)
@torch.no_grad()
def test_a_silenced_xclip_is_mean_pooled_clip(
    settings: dict[str, Any], videos: int, frames: int, texts: int, tmp_path: Path
) -> None:
    model, clip = started(tmp_path / "clip", frames, **settings)
    pixels, ids = inputs(model, videos, frames, texts)
    complete = model(pixel_values=pixels, input_ids=ids)
    ours = mean_pooled_logits(model, pixels, model.get_text_features(ids))
    with silenced(model):
        output = model(pixel_values=pixels, input_ids=ids)
    assert (complete.logits_per_video - ours).abs().max() > 1e-3  # else there was nothing to silence
    # The same sums in the same order; only the scores' own product is of other shapes, and may round otherwise.
    assert torch.equal(output.video_embeds, F.normalize(mean_pooled_features(model, pixels), dim=-1))
    assert (output.logits_per_video - ours).abs().max() <= 1e-6 * model.logit_scale.exp()

    video = clip_frames(clip, pixels).mean(dim=1)
    text = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
    cosines = F.normalize(video, dim=-1) @ F.normalize(text, dim=-1).T
    # transformers adds up in other orders (convolutions, an activation in three steps), hence a few roundings
    assert (ours / model.logit_scale.exp() - cosines).abs().max() <= 1e-6


@pytest.mark.parametrize(("settings", "videos", "frames", "texts"), SOME_SHAPES)
@torch.no_grad()
def test_differences_are_rounding_errors(
    settings: dict[str, Any], videos: int, frames: int, texts: int, tmp_path: Path
) -> None:
    """In double precision the differences are nine digits smaller."""
    model, clip = started(tmp_path / "clip", frames, **settings)
    model, clip = model.double(), clip.double()
    pixels, ids = inputs(model, videos, frames, texts)
    pixels = pixels.double()
    with silenced(model):
        logits = model(pixel_values=pixels, input_ids=ids).logits_per_video
    video = F.normalize(clip_frames(clip, pixels).mean(dim=1), dim=-1)
    text = F.normalize(clip.text_projection(clip.text_model(input_ids=ids).pooler_output), dim=-1)
    assert (logits - clip.logit_scale.exp() * video @ text.T).abs().max() <= 1e-12 * clip.logit_scale.exp()


@torch.no_grad()
@pytest.mark.slow
def test_features_of_frames_and_late_pooling(tmp_path: Path) -> None:
    model, clip = started(tmp_path / "clip", 4)
    pixels, ids = inputs(model, 3, 4, 5)
    expected = clip_frames(clip, pixels)
    features = frame_features(model, pixels)
    assert features.shape == (3, 4, 64)
    assert (features - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert torch.equal(mean_pooled_features(model, pixels), features.mean(1))
    alone = torch.cat([frame_features(model, pixels[:, t : t + 1]) for t in range(4)], dim=1)
    assert (alone - features).abs().max() <= 1e-5 * expected.abs().max()  # doesn't depend on the other frames

    text = model.get_text_features(ids)
    late = late_pooled_probabilities(model, pixels, text)
    assert late.shape == (3, 5)
    of_frames = [mean_pooled_logits(model, pixels[:, t : t + 1], text).softmax(-1) for t in range(4)]
    assert torch.allclose(late, torch.stack(of_frames).mean(0), atol=1e-5)
    assert torch.allclose(late.sum(-1), torch.ones(3))


@pytest.mark.slow
def test_the_baseline_can_be_trained(tmp_path: Path) -> None:
    """Only the towers get gradients, and drop path works."""
    model, _ = started(tmp_path / "clip", 3)
    pixels, ids = inputs(model, 2, 3, 4)
    model.train()

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        logits = mean_pooled_logits(model, pixels, model.get_text_features(ids).detach())
        F.cross_entropy(logits, torch.tensor([0, 3])).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    assert "vision_model.encoder.layers.0.mlp.fc1.weight" in plain
    assert not any("message" in name or name.startswith(("mit.", "prompts_")) for name in plain)
    for block in model.vision_model.encoder.layers:
        block.drop_path.rate = 0.5  # type: ignore[union-attr,assignment]
    assert not torch.equal(mean_pooled_features(model, pixels), mean_pooled_features(model, pixels))


def test_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    model, _ = started(tmp_path / "clip", 3)
    with pytest.raises(ValueError, match="image_size is 32x32"):
        mean_pooled_features(model, torch.zeros(1, 3, 3, 16, 16))
    with pytest.raises(ValueError, match="pixel_values must be"):
        mean_pooled_features(model, torch.zeros(3, 16, 16))
