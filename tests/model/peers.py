"""Helpers for comparing openxclip with transformers and the authors: configs, random weights, inputs, comparisons."""

from __future__ import annotations

import copy
import gc
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import openxclip

TOLERANCE = 1e-5  # of a field's largest absolute value, in float32

BASE_32: dict[str, Any] = {
    "text_config": {},
    "vision_config": {"patch_size": 32, "num_frames": 8},
    "projection_dim": 512,
}
LARGE_14: dict[str, Any] = {
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "patch_size": 14,
        "num_frames": 8,
        "mit_hidden_size": 768,
        "mit_intermediate_size": 3072,
    },
    "projection_dim": 768,
}
TINY: dict[str, Any] = {
    "text_config": {
        "vocab_size": 99,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
    },
    "vision_config": {
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "image_size": 32,
        "patch_size": 8,
        "num_frames": 8,
        "mit_hidden_size": 128,
        "mit_intermediate_size": 512,
        "mit_num_attention_heads": 2,
    },
    "projection_dim": 128,
    "prompt_num_attention_heads": 2,
}


def with_settings(base: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Return a copy of `base` with `vision_*` / `text_*` settings in the tower configs and others at the top."""
    config = copy.deepcopy(base)
    for key, value in settings.items():
        part, _, rest = key.partition("_")
        if part in ("vision", "text"):
            config[f"{part}_config"][rest] = value
        else:
            config[key] = value
    return config


def our_config(config: dict[str, Any]) -> openxclip.XCLIPConfig:
    return openxclip.XCLIPConfig(**copy.deepcopy(config))


def our_model(config: dict[str, Any], seed: int | None = 0) -> openxclip.XCLIPModel:
    """Our model with weights by `redraw`, or with its own initialisation if `seed` is None."""
    model = openxclip.XCLIPModel(our_config(config)).eval()
    if seed is not None:
        redraw(model, seed)
    return model


def our_model_with_weights_of(source: nn.Module, config: dict[str, Any]) -> openxclip.XCLIPModel:
    """Our model with the same tensors as `source`, so that full-size pairs fit in memory; keys must be identical."""
    with torch.device("meta"):
        model = openxclip.XCLIPModel(our_config(config)).eval()
    assert not list(model.buffers())
    model.load_state_dict(source.state_dict(), strict=True, assign=True)
    return model.requires_grad_(True)


def their_model(config: dict[str, Any], seed: int = 0) -> transformers.XCLIPModel:
    """transformers' model with eager attention, because only that returns attention maps."""
    settings = transformers.XCLIPConfig(**copy.deepcopy(config))
    settings._attn_implementation = "eager"
    with torch.device("meta"):  # initialising a full-size model would take half the time
        model = transformers.XCLIPModel(settings).eval()
    model = model.to_empty(device="cpu")
    for name, buffer in model.named_buffers():
        assert name.endswith("position_ids"), name
        buffer.copy_(torch.arange(buffer.shape[1])[None])
    redraw(model, seed)
    return model


def pair(config: dict[str, Any], seed: int = 0) -> tuple[openxclip.XCLIPModel, transformers.XCLIPModel]:
    theirs = their_model(config, seed)
    return our_model_with_weights_of(theirs, config), theirs


@torch.no_grad()
def redraw(model: nn.Module, seed: int) -> None:
    """Draw every parameter at random, norms and biases too, because defaults (ones, zeros) hide swapped layers.

    MIT and prompt linears get a std of 0.02 at E = 512, as in training; the others keep activations near 1.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
        owner, _, leaf = name.rpartition(".")
        parameter.normal_(generator=generator)
        if owner in norms:
            parameter.mul_(0.2).add_(1.0 if leaf == "weight" else 0.0)
        elif leaf in ("bias", "in_proj_bias"):
            parameter.mul_(0.1)
        elif leaf == "alpha":
            parameter.mul_(0.2).add_(0.6)
        elif leaf == "logit_scale":
            parameter.mul_(0.2).add_(3.0)
        elif "embedding" in name and "patch" not in name:
            parameter.mul_(0.5)
        elif owner.startswith(("mit.", "prompts_generator.")):
            parameter.mul_(0.02 * max(1.0, (512 / parameter.shape[-1]) ** 0.5))
        elif parameter.ndim == 4:
            parameter.mul_(parameter[0].numel() ** -0.5)
        elif leaf in ("prompts_visual_projection", "prompts_visual_proj", "text_projection", "proj"):
            parameter.mul_(parameter.shape[0] ** -0.5)
        else:
            parameter.mul_(0.7 * parameter.shape[-1] ** -0.5)


def make_ids(config: dict[str, Any], texts: int, length: int, *, pad: int | None = None, seed: int = 0):
    """Return (K, L) ids as the CLIP tokenizer arranges them, and their (K, L) mask.

    A text is start, words, end (the highest id), then `pad`; without `pad` all texts have the full length.
    """
    vocab = config["text_config"].get("vocab_size", 49408)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, vocab - 2, (texts, length), generator=generator)
    mask = torch.ones_like(ids)
    ids[:, 0] = vocab - 2
    for row in range(texts):
        end = length - 1 if pad is None else max(2, length - 1 - 2 * row)
        ids[row, end] = vocab - 1
        if pad is not None:
            ids[row, end + 1 :] = pad
            mask[row, end + 1 :] = 0
    return ids, mask


def make_pixels(config: dict[str, Any], videos: int, frames: int | None = None, size=None, seed: int = 0):
    """Return (B, T, 3, H, W) coarse patterns with noise, in about the range of normalised frames.

    Videos and frames differ clearly; with noise alone their averages would be alike, and gradients would cancel.
    """
    vision = config["vision_config"]
    height, width = size or (vision.get("image_size", 224),) * 2
    frames = frames or vision.get("num_frames", 8)
    generator = torch.Generator().manual_seed(seed + 1000)
    coarse = 2 * torch.randn(videos * frames, 3, 2, 2, generator=generator)
    coarse += torch.randn(videos, 3, 2, 2, generator=generator).repeat_interleave(frames, 0)
    pixels = F.interpolate(coarse, size=(height, width), mode="bilinear")
    pixels += 0.2 * torch.randn(pixels.shape, generator=generator)
    return pixels.view(videos, frames, 3, height, width)


PARTS = ("text_model_output", "vision_model_output", "mit_output")
TENSORS = ("loss", "logits_per_video", "logits_per_text", "text_embeds", "video_embeds")


def fields(output: Any) -> dict[str, Tensor]:
    """Return every tensor of an XCLIPOutput of either library under a dotted name."""
    tensors_by_name = {name: getattr(output, name) for name in TENSORS if getattr(output, name) is not None}
    for part in PARTS:
        inner = getattr(output, part)
        if inner is None:
            continue
        for name in ("last_hidden_state", "pooler_output"):
            tensors_by_name[f"{part}.{name}"] = getattr(inner, name)
        for name in ("hidden_states", "attentions"):
            for index, tensor in enumerate(getattr(inner, name, None) or ()):
                tensors_by_name[f"{part}.{name}.{index}"] = tensor
    return tensors_by_name


def relative_delta(ours: Tensor, theirs: Tensor, scale: float | None = None) -> float:
    """Return max |ours - theirs| divided by the largest |theirs|, or by `scale`."""
    assert ours.shape == theirs.shape, (tuple(ours.shape), tuple(theirs.shape))
    assert torch.isfinite(ours).all()
    largest = theirs.abs().max().item() if scale is None else scale
    difference = (ours.double() - theirs.double()).abs().max().item()
    return difference / largest if largest > 0 else difference


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    """Assert that names and shapes are equal and every field is within `tolerance` of its largest value.

    Logits may differ by twice as much, because a single logit is a sum of terms that may almost cancel.
    """
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    deltas = {name: relative_delta(ours[name], theirs[name]) for name in theirs}
    worst = max(deltas, key=lambda name: deltas[name])
    print(f"worst of {len(deltas)} fields: {worst} {deltas[worst]:.2e}")
    misses = {name: delta for name, delta in deltas.items() if not delta <= tolerance * (2 if "logits" in name else 1)}
    assert not misses, misses


def gradients(model: nn.Module) -> dict[str, Tensor]:
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing, missing
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    """Assert that gradients are equal. Gradients that are 0 up to rounding are compared at the scale of the others.

    Softmax ignores a key's bias. In the first block all class tokens, and so all messages, are equal, so that
    attention over them is uniform for any queries and keys.
    """
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    deltas = {}
    for name, expected in theirs.items():
        value = re.sub(r"[qk]_proj", "v_proj", name)
        alike = name.startswith("vision_model.encoder.layers.0.message_attn.")
        if value != name and (alike or name.endswith("k_proj.bias")):
            scale = theirs[value].abs().max().item()
        else:
            scale = None
            assert expected.abs().max() > 0, f"{name} gets no gradient, so it is not tested"
        deltas[name] = relative_delta(ours[name], expected, scale)
    worst = max(deltas, key=lambda name: deltas[name])
    print(f"worst of {len(deltas)} gradients: {worst} {deltas[worst]:.2e}")
    misses = {name: delta for name, delta in deltas.items() if not delta <= tolerance * (2 if "logits" in name else 1)}
    assert not misses, misses


@contextmanager
def mit_recorded(model: transformers.XCLIPModel) -> Iterator[dict[str, list[Tensor]]]:
    """Record MIT's hidden states and attentions by hooks, because transformers 5 doesn't return them."""
    record: dict[str, list[Tensor]] = {"hidden_states": [], "attentions": []}
    layers = model.mit.encoder.layers
    handles = [layers[0].register_forward_pre_hook(lambda _, inputs: record["hidden_states"].append(inputs[0]))]
    for layer in layers:
        handles.append(
            layer.register_forward_hook(lambda _, __, out: record["hidden_states"].append(out)),
        )
        handles.append(
            layer.self_attn.register_forward_hook(lambda _, __, out: record["attentions"].append(out[1])),
        )
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' log of loading, and its warning about a config file that it doesn't close."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"unclosed file <_io.*\.json'", ResourceWarning)
            yield
            gc.collect()
    finally:
        logger.setLevel(before)
