"""Training: initialisation, drop path, dropout, gradient checkpointing."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from peers import TINY, gradients, make_ids, make_pixels, our_model, relative_delta, with_settings
from reference import CrossFrameBlock, hugging_face_state
from torch import nn

# Starts (paper §1)

WIDE = with_settings(
    TINY,
    text_hidden_size=256,
    text_intermediate_size=1024,
    vision_hidden_size=384,
    vision_intermediate_size=1536,
    projection_dim=256,
    vision_mit_hidden_size=256,
    vision_mit_intermediate_size=1024,
    vision_mit_num_attention_heads=4,
    vision_num_frames=64,
    prompt_num_attention_heads=4,
)


@pytest.fixture(scope="module")
def fresh() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {name: value.detach() for name, value in our_model(WIDE, seed=None).named_parameters()}


def test_mit_and_prompt_linears_are_initialized_with_std_002_and_zero_bias(fresh: dict[str, torch.Tensor]) -> None:
    linears = [
        name
        for name, value in fresh.items()
        if name.startswith(("mit.encoder", "prompts_generator.decoder")) and value.ndim == 2
    ]
    assert len(linears) == 6 + 2 * 6
    for name in linears:
        assert fresh[name].std().item() == pytest.approx(0.02, rel=0.03), name
        assert abs(fresh[name].mean().item()) < 5e-4, name
        bias = fresh.get(name.replace("weight", "bias"))
        assert bias is None or bias.abs().max() == 0, name
    positions = fresh["mit.position_embedding"]
    assert positions.shape == (1, 64, 256)
    assert positions.std().item() == pytest.approx(0.02, rel=0.03)


def test_alpha_starts_at_a_tenth(fresh: dict[str, torch.Tensor]) -> None:
    assert torch.equal(fresh["prompts_generator.alpha"], torch.full((256,), 0.1))
    other = our_model(with_settings(WIDE, prompt_alpha=0.3), seed=None)
    assert other.prompts_generator.alpha.detach().unique().item() == pytest.approx(0.3)


def test_the_visual_prompt_projection_is_initialized_with_std_1(fresh: dict[str, torch.Tensor]) -> None:
    value = fresh["prompts_visual_projection"]
    assert value.shape == (384, 256)
    assert value.std().item() == pytest.approx(1.0, rel=0.02)


def test_logit_scale_starts_at_the_configs_value(fresh: dict[str, torch.Tensor]) -> None:
    assert fresh["logit_scale"].item() == pytest.approx(2.6592)


def test_messages_keep_pytorchs_initialization(fresh: dict[str, torch.Tensor]) -> None:
    """The authors use nn.Linear and nn.MultiheadAttention, which applies Xavier to the stacked q, k and v."""
    torch.manual_seed(4)
    theirs = {
        f"vision_model.encoder.layers.0.{name}": value
        for name, value in (
            (name.removeprefix("vision_model.encoder.layers.0."), value)
            for name, value in hugging_face_state(
                {
                    f"visual.transformer.resblocks.0.{name}": value
                    for name, value in CrossFrameBlock(384, 6, 1536).state_dict().items()
                }
            ).items()
        )
        if name.startswith("message_")
    }
    assert len(theirs) == 12
    for name, value in theirs.items():
        actual = fresh[name]
        if value.ndim == 1 and value.unique().numel() == 1:
            assert torch.equal(actual, value), name
        else:
            assert actual.std().item() == pytest.approx(value.std().item(), rel=0.12), name
            assert actual.abs().max().item() == pytest.approx(value.abs().max().item(), rel=0.05), name


def test_norms_start_as_identity(fresh: dict[str, torch.Tensor]) -> None:
    for name, value in fresh.items():
        if "norm" in name or "message_ln" in name:
            expected = torch.ones_like(value) if name.endswith("weight") else torch.zeros_like(value)
            assert torch.equal(value, expected), name


def test_every_parameter_is_initialized(fresh: dict[str, torch.Tensor]) -> None:
    """Two seeds agree in fixed initial values and differ in all others, so no parameter is left uninitialised."""
    torch.manual_seed(9)
    other = dict(our_model(WIDE, seed=None).named_parameters())
    torch.manual_seed(3)
    again = dict(our_model(WIDE, seed=None).named_parameters())
    for name, value in fresh.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, again[name]), name
        if value.ndim >= 2:
            assert not torch.equal(value, other[name]), name
            assert 1e-3 < value.std() < 1.1, name


# Drop path


def block_outcomes(block: Any, x: torch.Tensor, frames: int, rate: float, heads: int) -> dict[tuple[int, ...], Any]:
    """What a block may make of x: each of its three residuals kept (and scaled) or dropped."""
    width = x.shape[-1]
    peer = CrossFrameBlock(width, heads, block.mlp.fc1.out_features)
    renamed = {}
    for key in peer.state_dict():
        mapped = hugging_face_state(
            {f"visual.transformer.resblocks.0.{key}": torch.zeros(3 * width, width)}
            if "in_proj_weight" in key
            else {f"visual.transformer.resblocks.0.{key}": torch.zeros(3 * width)}
        )
        parts = [name.removeprefix("vision_model.encoder.layers.0.") for name in mapped]
        renamed[key] = torch.cat([block.state_dict()[part] for part in parts])
    peer.load_state_dict(renamed)
    with torch.no_grad():
        return {
            kept: peer(x, frames, [keep / (1 - rate) for keep in kept])[0]
            for kept in itertools.product((0, 1), repeat=3)
        }


@pytest.mark.parametrize("frames", [3, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*temporal positions:UserWarning")
def test_drop_path_drops_each_residual_of_whole_videos(frames: int) -> None:
    """The rate rises linearly from 0 at the first block; checked by the output of every block."""
    config = with_settings(TINY, vision_drop_path_rate=0.6, vision_num_frames=frames)
    model = our_model(config).train()
    pixels = make_pixels(config, 4).flatten(0, 1)
    seen: dict[int, list[tuple[int, ...]]] = {0: [], 1: [], 2: []}
    torch.manual_seed(1)
    for _ in range(12):
        with torch.no_grad():
            states = model.vision_model(pixels, output_hidden_states=True).hidden_states
        for index, rate in enumerate((0.0, 0.3, 0.6)):
            outcomes = block_outcomes(model.vision_model.encoder.layers[index], states[index], frames, rate, heads=6)
            for video in range(4):
                rows = slice(video * frames, (video + 1) * frames)
                matching = [
                    kept
                    for kept, outcome in outcomes.items()
                    if relative_delta(states[index + 1][rows], outcome[rows]) < 1e-5
                ]
                # Without attention the message is never seen, so that two outcomes are one.
                assert len(matching) == (1 if matching[0][1] else 2), (index, video, matching)
                seen[index].append(matching[0])
    assert set(seen[0]) == {(1, 1, 1)}
    for index, rate in ((1, 0.3), (2, 0.6)):
        kept = torch.tensor(seen[index], dtype=torch.float64)
        messages = kept[kept[:, 1] == 1, 0]
        for share, count in ((messages.mean(), len(messages)), (kept[:, 1].mean(), 48), (kept[:, 2].mean(), 48)):
            assert abs(share - (1 - rate)) < 4 * (rate * (1 - rate) / count) ** 0.5
        assert len(set(seen[index])) == 6  # the three residuals are drawn independently
    assert len(set(zip(*[iter(seen[2])] * 4, strict=True))) > 6  # and so are videos


def test_drop_path_keeps_the_expectation() -> None:
    config = with_settings(TINY, vision_drop_path_rate=0.5, vision_num_hidden_layers=2)
    model = our_model(config)
    layer = model.vision_model.encoder.layers[1]
    x = torch.ones(4000, 1, 1, dtype=torch.float64)
    layer.train()
    dropped = layer.drop_path(x, 2000)
    assert dropped.dtype == x.dtype
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.1)
    assert torch.equal(dropped[0::2], dropped[1::2])
    assert torch.equal(layer.eval().drop_path(x, 2000), x)


def test_drop_path_is_off_in_eval_mode_and_with_one_layer() -> None:
    for config in (
        with_settings(TINY, vision_drop_path_rate=0.9),
        with_settings(TINY, vision_drop_path_rate=0.9, vision_num_hidden_layers=1),
    ):
        plain = our_model({**config, "vision_config": {**config["vision_config"], "drop_path_rate": 0.0}})
        model = our_model(config)
        pixels = make_pixels(config, 2)
        with torch.no_grad():
            expected = plain.get_video_features(pixels)
            assert torch.equal(model.get_video_features(pixels), expected)
            if config["vision_config"]["num_hidden_layers"] == 1:
                assert torch.equal(model.train().get_video_features(pixels), expected)
            else:
                assert not torch.allclose(model.train().get_video_features(pixels), expected)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_invalid_drop_path_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=str(rate)):
        our_model(with_settings(TINY, vision_drop_path_rate=rate))


# Dropout


@pytest.mark.parametrize(
    "setting",
    [
        "text_attention_dropout",
        "vision_attention_dropout",
        "prompt_attention_dropout",
        "prompt_projection_dropout",
    ],
)
def test_dropout_is_active_in_training_only(setting: str) -> None:
    model, plain = our_model(with_settings(TINY, **{setting: 0.5})), our_model(TINY)
    inputs = {"input_ids": make_ids(TINY, 3, 9)[0], "pixel_values": make_pixels(TINY, 2)}
    for options in ({}, {"output_attentions": True}):
        with torch.no_grad():
            expected = plain(**inputs, **options).logits_per_video
            assert torch.equal(model.eval()(**inputs, **options).logits_per_video, expected)
            assert not torch.allclose(model.train()(**inputs, **options).logits_per_video, expected)


# Gradient checkpointing


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("frozen", [False, True], ids=["all trained", "text frozen"])
def test_gradient_checkpointing_changes_no_gradient(drop_path: float, dropout: float, frozen: bool) -> None:
    config = with_settings(
        TINY,
        vision_drop_path_rate=drop_path,
        vision_attention_dropout=dropout,
        prompt_attention_dropout=dropout,
        text_attention_dropout=dropout,
    )
    model = our_model(config).train()
    if frozen:
        model.text_model.requires_grad_(False)
    ids, mask = make_ids(config, 3, 9, pad=0)
    inputs = {"input_ids": ids, "pixel_values": make_pixels(config, 3), "attention_mask": mask}
    results = []
    for checkpointing in (False, True):
        (model.gradient_checkpointing_enable if checkpointing else model.gradient_checkpointing_disable)()
        assert model.is_gradient_checkpointing is checkpointing
        model.zero_grad()
        torch.manual_seed(2)
        loss = model(**inputs, return_loss=True).loss
        loss.backward()
        trained = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
        results.append({**trained, "loss": loss.detach()})
    for name, value in results[0].items():
        assert torch.isfinite(value).all(), name
        assert relative_delta(results[1][name], value) <= 1e-6, name


def test_gradient_checkpointing_saves_memory() -> None:
    model = our_model(TINY).train()
    inputs = {"input_ids": make_ids(TINY, 3, 9)[0], "pixel_values": make_pixels(TINY, 3)}

    def kept() -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**inputs, return_loss=True)
        return sum(sizes)

    before = kept()
    model.gradient_checkpointing_enable()
    assert kept() < before / 2


def test_gradient_checkpointing_with_hidden_states() -> None:
    model = our_model(TINY).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    inputs = {"input_ids": make_ids(TINY, 3, 9)[0], "pixel_values": make_pixels(TINY, 3)}
    outputs = model(**inputs, return_loss=True, output_attentions=True, output_hidden_states=True)
    outputs.loss.backward()
    assert len(outputs.vision_model_output.attentions) == 3
    assert len(outputs.vision_model_output.hidden_states) == 4
    assert all(torch.isfinite(gradient).all() for gradient in gradients(model).values())


def test_gradient_checkpointing_keeps_input_gradients() -> None:
    model = our_model(TINY).train()
    model.requires_grad_(False)
    results = []
    for checkpointing in (False, True):
        (model.gradient_checkpointing_enable if checkpointing else model.gradient_checkpointing_disable)()
        pixels = make_pixels(TINY, 2).requires_grad_()
        model.get_video_features(pixels).square().sum().backward()
        results.append(pixels.grad)
    assert results[0].abs().max() > 0
    assert relative_delta(results[1], results[0]) <= 1e-6


@pytest.mark.slow
def test_a_few_steps_learn() -> None:
    """A few steps from the default initialisation learn to match four videos to their texts."""
    torch.manual_seed(0)
    model = our_model(TINY, seed=None).train()
    inputs = {"input_ids": make_ids(TINY, 4, 9)[0], "pixel_values": make_pixels(TINY, 4)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(**inputs, return_loss=True).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0], losses
