"""Comparison with transformers' X-CLIP with random parameters: outputs, loss and gradients."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from peers import (
    BASE_32,
    LARGE_14,
    TINY,
    assert_same,
    assert_same_gradients,
    fields,
    gradients,
    make_ids,
    make_pixels,
    mit_recorded,
    our_model_with_weights_of,
    pair,
    relative_delta,
    their_model,
    with_settings,
)

import openxclip

ODD = {
    "text_config": {
        "vocab_size": 31,
        "hidden_size": 28,
        "intermediate_size": 50,
        "num_hidden_layers": 2,
        "num_attention_heads": 7,
        "max_position_embeddings": 20,
    },
    "vision_config": {
        "hidden_size": 36,
        "intermediate_size": 60,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "image_size": 23,
        "patch_size": 5,
        "num_frames": 3,
        "mit_hidden_size": 24,
        "mit_intermediate_size": 40,
        "mit_num_hidden_layers": 2,
        "mit_num_attention_heads": 4,
    },
    "projection_dim": 24,
    "prompt_num_attention_heads": 6,
}
SMALL_SHAPES = {
    "tiny": TINY,
    "odd": ODD,
    "one frame": with_settings(ODD, vision_num_frames=1),
    "one patch": with_settings(TINY, vision_image_size=8),
    "one layer": with_settings(TINY, vision_num_hidden_layers=1, text_num_hidden_layers=1, prompt_layers=1),
    "one head": with_settings(
        TINY,
        vision_num_attention_heads=1,
        text_num_attention_heads=1,
        vision_mit_num_attention_heads=1,
        prompt_num_attention_heads=1,
    ),
    "deep prompts and MIT": with_settings(
        ODD, prompt_layers=4, vision_mit_num_hidden_layers=3, prompt_num_attention_heads=24
    ),
    "epsilons apart": with_settings(TINY, text_layer_norm_eps=0.3, vision_layer_norm_eps=0.01),
    "exact gelu": with_settings(TINY, text_hidden_act="gelu", vision_hidden_act="gelu"),
    "exact gelu in prompts": with_settings(TINY, prompt_hidden_act="gelu"),
    "four channels": with_settings(ODD, vision_num_channels=4),
}


def pixels_for(config: dict[str, Any], videos: int, **options: Any) -> torch.Tensor:
    pixels = make_pixels(config, videos, **options)
    channels = config["vision_config"].get("num_channels", 3)
    return pixels if channels == 3 else torch.cat([pixels, pixels[:, :, :1].flip(-1)], dim=2)


@torch.no_grad()
def compare_everything(ours: openxclip.XCLIPModel, theirs: Any, inputs: dict[str, Any], *, loss: bool) -> None:
    """Compare the fused attention, then the attention that returns maps, with transformers' eager attention."""
    with mit_recorded(theirs) as mit:
        outputs = theirs(**inputs, output_attentions=True, output_hidden_states=True, return_loss=loss)
    expected = fields(outputs)
    for name, tensors in mit.items():
        assert tensors
        expected |= {f"mit_output.{name}.{i}": tensor for i, tensor in enumerate(tensors)}
    del outputs, mit

    fast = ours(**inputs, return_loss=loss)
    plain = {k: v for k, v in expected.items() if "hidden_states." not in k and "attentions." not in k}
    assert_same(fields(fast), plain)
    assert fast.text_model_output.attentions is None
    assert fast.vision_model_output.hidden_states is None
    del fast

    actual = ours(**inputs, output_hidden_states=True, return_loss=loss)
    assert_same(fields(actual), {k: v for k, v in expected.items() if "attentions." not in k})
    del actual

    actual = ours(**inputs, output_attentions=True, output_hidden_states=True, return_loss=loss)
    assert_same(fields(actual), expected)


@pytest.mark.parametrize("name", SMALL_SHAPES)
@pytest.mark.parametrize(("videos", "texts"), [pytest.param(1, 1, marks=pytest.mark.slow), (2, 3), (3, 3)])
def test_all_outputs_of_small_models(name: str, videos: int, texts: int) -> None:
    config = SMALL_SHAPES[name]
    ours, theirs = pair(config, seed=videos)
    ids, _ = make_ids(config, texts, 9)
    inputs = {"input_ids": ids, "pixel_values": pixels_for(config, videos)}
    compare_everything(ours, theirs, inputs, loss=videos == texts)


@pytest.mark.parametrize("name", [name for name in SMALL_SHAPES if name not in ("one frame", "one patch")])
def test_gradients_of_small_models(name: str) -> None:
    config = SMALL_SHAPES[name]
    ours, theirs = pair(config, seed=5)
    ids, _ = make_ids(config, 3, 9)
    compare_gradients(ours, theirs, {"input_ids": ids, "pixel_values": pixels_for(config, 3)})


def compare_gradients(ours: Any, theirs: Any, inputs: dict[str, Any]) -> None:
    """Compare gradients of the contrastive loss plus a random weighting of its parts, which keeps sums from cancelling.

    The loss alone is compared in float64, in test_parity_authors.
    """
    results = []
    for model in (theirs, ours):
        outputs = model(**inputs, return_loss=True)
        weigher = torch.Generator().manual_seed(7)
        total = outputs.loss
        for field in (outputs.text_embeds, outputs.video_embeds, outputs.logits_per_video):
            total = total + (field * torch.randn(field.shape, generator=weigher)).sum()
        total.backward()
        results.append(gradients(model))
    assert_same_gradients(results[1], results[0])


@pytest.mark.parametrize("pad", [0, 98], ids=["pad with !", "pad with the end token"])
@pytest.mark.parametrize("mask_type", [torch.int64, torch.bool, torch.float32, None])
def test_padded_texts(pad: int, mask_type: torch.dtype | None) -> None:
    ours, theirs = pair(TINY)
    ids, mask = make_ids(TINY, 4, 12, pad=pad)
    inputs = {"input_ids": ids, "pixel_values": make_pixels(TINY, 2)}
    if mask_type is not None:
        inputs["attention_mask"] = mask.to(torch.int64)
    with torch.no_grad():
        expected = fields(theirs(**inputs, output_attentions=True, output_hidden_states=True))
        if mask_type is not None:
            inputs["attention_mask"] = mask.to(mask_type)
        fast = fields(ours(**inputs))
        outputs = fields(ours(**inputs, output_attentions=True, output_hidden_states=True))
    assert_same(fast, {name: expected[name] for name in fast})
    assert_same({name: outputs[name] for name in expected}, expected)


def test_a_mask_with_holes() -> None:
    ours, theirs = pair(TINY)
    ids, mask = make_ids(TINY, 3, 12)
    mask[0, 2:5] = 0
    mask[1, 7] = 0
    inputs = {"input_ids": ids, "pixel_values": make_pixels(TINY, 2), "attention_mask": mask}
    compare_everything(ours, theirs, inputs, loss=False)
    with torch.no_grad():
        unmasked = ours.get_text_features(ids)
        masked = ours.get_text_features(ids, attention_mask=mask)
    assert not torch.allclose(unmasked[:2], masked[:2], atol=1e-3)
    assert relative_delta(unmasked[2], masked[2]) < 1e-5


def test_left_padding_gives_the_same_pooled_texts() -> None:
    ours, theirs = pair(TINY)
    ids, mask = make_ids(TINY, 2, 9)
    ids[0, :3], mask[0, :3] = 0, 0
    with torch.no_grad():
        expected = theirs.get_text_features(ids, attention_mask=mask).pooler_output
        actual = ours.get_text_features(ids, attention_mask=mask)
    assert relative_delta(actual, expected) <= 1e-5


@pytest.mark.parametrize("length", [1, 2, 77])
def test_text_lengths(length: int) -> None:
    ours, theirs = pair(TINY)
    ids, _ = make_ids(TINY, 2, length)
    compare_everything(ours, theirs, {"input_ids": ids, "pixel_values": make_pixels(TINY, 2)}, loss=True)


def test_position_ids() -> None:
    ours, theirs = pair(TINY)
    ids, _ = make_ids(TINY, 2, 8)
    positions = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    inputs = {"input_ids": ids, "pixel_values": make_pixels(TINY, 2), "position_ids": positions}
    compare_everything(ours, theirs, inputs, loss=True)


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (45, 37), (16, 16), (64, 16), (8, 72)])
def test_other_resolutions(size: tuple[int, int]) -> None:
    ours, theirs = pair(TINY)
    ids, _ = make_ids(TINY, 2, 8)
    inputs = {"input_ids": ids, "pixel_values": make_pixels(TINY, 2, size=size)}
    inputs["interpolate_pos_encoding"] = True
    compare_everything(ours, theirs, inputs, loss=True)


def test_positions_of_a_half_filled_grid_are_interpolated_too() -> None:
    ours, theirs = pair(ODD)
    ids, _ = make_ids(ODD, 2, 8)
    inputs = {"input_ids": ids, "pixel_values": make_pixels(ODD, 2, size=(31, 44))}
    inputs["interpolate_pos_encoding"] = True
    compare_everything(ours, theirs, inputs, loss=True)


@torch.no_grad()
def test_features() -> None:
    ours, theirs = pair(TINY)
    ids, mask = make_ids(TINY, 4, 12, pad=0)
    pixels = make_pixels(TINY, 3)
    text = ours.get_text_features(input_ids=ids, attention_mask=mask)
    video = ours.get_video_features(pixel_values=pixels)
    assert isinstance(text, torch.Tensor)
    assert isinstance(video, torch.Tensor)
    assert relative_delta(text, theirs.get_text_features(ids, attention_mask=mask).pooler_output) <= 1e-5
    assert relative_delta(video, theirs.get_video_features(pixels).pooler_output) <= 1e-5


@torch.no_grad()
def test_towers() -> None:
    for config in (TINY, ODD):
        ours, theirs = pair(config)
        ids, mask = make_ids(config, 4, 12, pad=0)
        pixels = make_pixels(config, 2).flatten(0, 1)
        options = {"output_hidden_states": True, "output_attentions": True}
        text = openxclip.XCLIPTextModel(ours.config.text_config).eval()
        vision = openxclip.XCLIPVisionModel(ours.config.vision_config).eval()
        text.load_state_dict(ours.text_model.state_dict())
        vision.load_state_dict(ours.vision_model.state_dict())
        expected = theirs.text_model(input_ids=ids, attention_mask=mask, **options)
        actual = text(input_ids=ids, attention_mask=mask, **options)
        assert_same(tower_fields(actual), tower_fields(expected))
        assert_same(tower_fields(text(ids, mask)), tower_fields(theirs.text_model(input_ids=ids, attention_mask=mask)))
        expected = theirs.vision_model(pixel_values=pixels, **options)
        assert_same(tower_fields(vision(pixel_values=pixels, **options)), tower_fields(expected))
        assert_same(tower_fields(vision(pixels)), tower_fields(theirs.vision_model(pixels)))


def tower_fields(output: Any) -> dict[str, torch.Tensor]:
    tensors_by_name = {"last": output.last_hidden_state, "pooled": output.pooler_output}
    for name in ("hidden_states", "attentions"):
        tensors_by_name |= {f"{name}.{i}": tensor for i, tensor in enumerate(getattr(output, name, None) or ())}
    return tensors_by_name


BASE_16 = with_settings(BASE_32, vision_patch_size=16)
FULL_SIZES = {
    "base/32 x 8": BASE_32,
    "base/32 x 16": with_settings(BASE_32, vision_num_frames=16),
    "base/16 x 32": with_settings(BASE_16, vision_num_frames=32),
    "large/14 x 8, 8 heads": with_settings(LARGE_14, vision_mit_num_attention_heads=8, prompt_num_attention_heads=8),
    "large/14 x 8, 12 heads": with_settings(LARGE_14, vision_mit_num_attention_heads=12, prompt_num_attention_heads=12),
}
# A forward of the largest models takes up to a minute on a small machine, so each of the two tests one attention path,
# and the second, which has the same video tower, gets smaller frames.
PATHS = {"large/14 x 8, 8 heads": ["fast"], "large/14 x 8, 12 heads": ["attentions"]}


@pytest.mark.parametrize("name", FULL_SIZES)
@pytest.mark.slow
def test_all_outputs_of_released_sizes(name: str) -> None:
    config, paths = FULL_SIZES[name], PATHS.get(name, ["fast", "attentions"])
    videos = 2 if config["vision_config"]["patch_size"] == 32 else 1
    theirs = their_model(config)
    ids, mask = make_ids(config, videos, 11, pad=49407)
    size = (112, 112) if "12 heads" in name else (224, 224)
    inputs = {"input_ids": ids, "attention_mask": mask, "pixel_values": make_pixels(config, videos, size=size)}
    options = {"output_hidden_states": True, "return_loss": True, "interpolate_pos_encoding": size[0] != 224}
    with torch.no_grad(), mit_recorded(theirs) as mit:
        outputs = theirs(**inputs, **options, output_attentions="attentions" in paths)
    expected = fields(outputs)
    for part, tensors in mit.items():
        expected |= {f"mit_output.{part}.{i}": tensor for i, tensor in enumerate(tensors)}
    del outputs, mit
    ours = our_model_with_weights_of(theirs, config)
    del theirs
    gc.collect()
    for path in paths:
        with torch.no_grad():
            actual = fields(ours(**inputs, **options, output_attentions=path == "attentions"))
        wanted = path == "attentions"
        assert_same(actual, {k: v for k, v in expected.items() if wanted or "attentions." not in k})


@pytest.mark.slow
def test_gradients_of_base_32() -> None:
    ours, theirs = pair(BASE_32)
    ids, _ = make_ids(BASE_32, 2, 11)
    compare_gradients(ours, theirs, {"input_ids": ids, "pixel_values": make_pixels(BASE_32, 2)})
