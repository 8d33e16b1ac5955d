"""Comparison with the authors' architecture, reimplemented in `reference.py` on `torch.nn.MultiheadAttention`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peers import (
    BASE_32,
    TINY,
    assert_same,
    assert_same_gradients,
    gradients,
    make_ids,
    make_pixels,
    our_model,
    redraw,
    with_settings,
)
from reference import AuthorsXCLIP, hugging_face_state

JOINT_768 = with_settings(
    TINY,
    projection_dim=768,
    vision_mit_hidden_size=768,
    vision_mit_intermediate_size=3072,
    vision_mit_num_attention_heads=12,
    prompt_num_attention_heads=12,
)
SHAPES = {
    "tiny": TINY,
    "three frames": with_settings(TINY, vision_num_frames=3),
    "large's joint width": JOINT_768,
    "base/32": BASE_32,
}


def authors_model(config: dict[str, Any]) -> AuthorsXCLIP:
    """MIT and prompts have E/64 heads, as in the authors' code."""
    text, vision = config["text_config"], config["vision_config"]
    model = AuthorsXCLIP(
        image_size=vision.get("image_size", 224),
        patch=vision["patch_size"],
        vision_width=vision.get("hidden_size", 768),
        vision_layers=vision.get("num_hidden_layers", 12),
        vision_heads=vision.get("num_attention_heads", 12),
        joint=config["projection_dim"],
        vocab=text.get("vocab_size", 49408),
        context=77,
        text_width=text.get("hidden_size", 512),
        text_layers=text.get("num_hidden_layers", 12),
        text_heads=text.get("num_attention_heads", 8),
        frames=vision["num_frames"],
    ).eval()
    redraw(model, 11)
    return model


def reference_fields(outputs: dict[str, Any]) -> dict[str, torch.Tensor]:
    tensors_by_name = {name: outputs[name] for name in ("logits_per_video", "text_embeds", "video_embeds")}
    for part in ("text", "vision", "mit"):
        tensors_by_name[f"{part}.last"] = outputs[part]["last"]
        tensors_by_name[f"{part}.pooled"] = outputs[part]["pooled"]
        for kind in ("states", "attentions"):
            tensors_by_name |= {f"{part}.{kind}.{i}": tensor for i, tensor in enumerate(outputs[part][kind])}
    return tensors_by_name


def our_fields(outputs: Any) -> dict[str, torch.Tensor]:
    tensors_by_name = {name: getattr(outputs, name) for name in ("logits_per_video", "text_embeds", "video_embeds")}
    for part in ("text", "vision", "mit"):
        inner = getattr(outputs, "mit_output" if part == "mit" else f"{part}_model_output")
        tensors_by_name[f"{part}.last"] = inner.last_hidden_state
        tensors_by_name[f"{part}.pooled"] = inner.pooler_output
        for kind, tensors in (("states", inner.hidden_states), ("attentions", inner.attentions)):
            tensors_by_name |= {f"{part}.{kind}.{i}": tensor for i, tensor in enumerate(tensors)}
    return tensors_by_name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "base/32")) for name in SHAPES]
)
def test_all_outputs(name: str) -> None:
    config = SHAPES[name]
    reference = authors_model(config)
    ours = our_model(config, seed=None)
    ours.load_state_dict(hugging_face_state(reference.state_dict()), strict=True)
    ids, _ = make_ids(config, 3, 10, pad=0)
    pixels = make_pixels(config, 2)
    with torch.no_grad():
        expected = reference_fields(reference(ids, pixels))
        outputs = ours(input_ids=ids, pixel_values=pixels, output_attentions=True, output_hidden_states=True)
        assert_same(our_fields(outputs), expected)
        fast = ours(input_ids=ids, pixel_values=pixels)
    for part in ("logits_per_video", "text_embeds", "video_embeds"):
        assert_same({part: getattr(fast, part)}, {part: expected[part]})


@pytest.mark.parametrize("name", ["tiny", "three frames", pytest.param("large's joint width", marks=pytest.mark.slow)])
def test_loss_and_gradients_in_float64(name: str) -> None:
    """In float64, rounding can't hide a wrong formula in the loss or the gradient of any parameter."""
    config = SHAPES[name]
    reference = authors_model(config).double()
    ours = our_model(config, seed=None).double()
    ours.load_state_dict(hugging_face_state(reference.state_dict()), strict=True)
    ids, _ = make_ids(config, 4, 10)
    pixels = make_pixels(config, 4).double()
    logits = reference(ids, pixels)["logits_per_video"]
    diagonal = torch.arange(4)
    by_video, by_text = logits.log_softmax(1)[diagonal, diagonal], logits.log_softmax(0)[diagonal, diagonal]
    loss = -(by_video.mean() + by_text.mean()) / 2
    loss.backward()
    actual = ours(input_ids=ids, pixel_values=pixels, return_loss=True).loss
    actual.backward()
    assert actual.item() == pytest.approx(loss.item(), rel=1e-12)
    assert_same_gradients(gradients(ours), hugging_face_state(gradients(reference)), tolerance=1e-10)


def test_the_comparison_detects_swapped_parameters() -> None:
    """The two parameters have the same shape, and both are near 1."""
    reference = authors_model(TINY)
    state = hugging_face_state(reference.state_dict())
    block = "vision_model.encoder.layers.1."
    first, second = f"{block}layer_norm1.weight", f"{block}message_ln.weight"
    state[first], state[second] = state[second], state[first]
    ours = our_model(TINY, seed=None)
    ours.load_state_dict(state, strict=True)
    ids, _ = make_ids(TINY, 3, 10)
    pixels = make_pixels(TINY, 2)
    with torch.no_grad():
        expected = reference(ids, pixels)["logits_per_video"]
        actual = ours(input_ids=ids, pixel_values=pixels).logits_per_video
    with pytest.raises(AssertionError):
        assert_same({"logits": actual}, {"logits": expected})
