"""Parameter groups and learning rates, against numbers computed by hand from the paper's table of settings."""

from __future__ import annotations

import pytest
import torch

from openxclip import XCLIPModel
from openxclip.training.optimisation import Schedule, is_fresh, make_optimizer, parameter_groups, set_trainable

# Fully supervised: 8e-6 to 8e-8 over 30 epochs of 100 steps, with 5 epochs of warm-up.
PAPER = Schedule(total=3000, warmup=500, minimum=8e-8)


@pytest.mark.parametrize(
    ("step", "rate", "fresh"),
    [
        (0, 0.0, 0.0),
        (1, 1.6e-8, 1.6e-7),
        (250, 4e-6, 4e-5),
        (499, 7.984e-6, 7.984e-5),
        (500, 7.4694606e-6, 7.4646375e-5),  # minimum + (base - minimum) * (1 + cos 30°) / 2, and 1.8660254 / 2 = 0.9330
        (1500, 4.04e-6, 4.004e-5),  # halfway
        (2999, 8.000217e-8, 8.002191e-8),  # (1 + cos(pi * 2999 / 3000)) / 2 = 2.7416e-7
    ],
)
def test_learning_rates(step: int, rate: float, fresh: float) -> None:
    assert PAPER.rate(step, 8e-6) == pytest.approx(rate, rel=1e-6)
    assert PAPER.rate(step, 8e-5) == pytest.approx(fresh, rel=1e-6)


def test_without_warmup_the_first_rate_is_the_base_rate() -> None:
    assert Schedule(total=10, warmup=0, minimum=0.0).rate(0, 1.0) == 1.0


def test_invalid_schedules_are_refused() -> None:
    with pytest.raises(ValueError, match="warmup=11, total=10: must be 0 <= warmup <= total"):
        Schedule(total=10, warmup=11, minimum=0.0)


def model(tiny_folder) -> XCLIPModel:  # type: ignore[no-untyped-def]
    return XCLIPModel.from_pretrained(tiny_folder)


def test_parameter_groups(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    learner = model(tiny_folder)
    trained = set_trainable(learner, towers="visual", loss="classes")
    frozen = {name for name, _ in learner.named_parameters()} - trained
    assert frozen == {name for name in frozen if name.startswith("text_") or name == "logit_scale"}
    assert not any(name.startswith("text_") for name in trained)
    groups = parameter_groups(learner, lr=8e-6)
    assert sorted(name for group in groups for name in group.names) == sorted(trained)  # each once
    by_name = {name: group for group in groups for name in group.names}
    layer = "vision_model.encoder.layers.0"
    for name, lr, decay in (
        (f"{layer}.self_attn.q_proj.weight", 8e-6, 0.001),
        (f"{layer}.self_attn.q_proj.bias", 8e-6, 0),
        (f"{layer}.layer_norm1.weight", 8e-6, 0),
        ("vision_model.embeddings.class_embedding", 8e-6, 0),
        ("vision_model.embeddings.position_embedding.weight", 8e-6, 0),
        ("vision_model.embeddings.patch_embedding.weight", 8e-6, 0.001),
        ("visual_projection.weight", 8e-6, 0.001),
        (f"{layer}.message_fc.weight", 8e-5, 0.001),
        (f"{layer}.message_ln.weight", 8e-5, 0),
        (f"{layer}.message_attn.out_proj.bias", 8e-5, 0),
        ("mit.position_embedding", 8e-5, 0),
        ("mit.encoder.layers.0.mlp.fc1.weight", 8e-5, 0.001),
        ("prompts_visual_projection", 8e-5, 0.001),
        ("prompts_visual_layernorm.bias", 8e-5, 0),
        ("prompts_generator.alpha", 8e-5, 0),
        ("prompts_generator.decoder.0.cross_attn.q_proj.weight", 8e-5, 0.001),
    ):
        assert by_name[name].lr == pytest.approx(lr), name
        assert by_name[name].weight_decay == decay, name


def test_trained_towers(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    for towers, text, visual in (("text", True, False), ("both", True, True), ("none", False, False)):
        learner = model(tiny_folder)
        trained = set_trainable(learner, towers=towers, loss="pairs")  # type: ignore[arg-type]
        assert ("text_projection.weight" in trained) == text
        assert ("visual_projection.weight" in trained) == visual
        assert "logit_scale" in trained
        assert all(name in trained for name, _ in learner.named_parameters() if is_fresh(name))


def test_the_temperature_is_trained_as_in_the_authors_code(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    """It is trained with both towers, with CLIP's learning rate and weight decay; it is frozen if a tower is."""
    for towers in ("visual", "text", "none"):
        assert "logit_scale" not in set_trainable(model(tiny_folder), towers=towers, loss="classes")  # type: ignore[arg-type]
    learner = model(tiny_folder)
    assert "logit_scale" in set_trainable(learner, towers="both", loss="classes")
    (group,) = [group for group in parameter_groups(learner, lr=8e-6) if "logit_scale" in group.names]
    assert (group.lr, group.weight_decay) == (8e-6, 0.001)


def test_the_schedule_sets_the_optimizers_rates(tiny_folder) -> None:  # type: ignore[no-untyped-def]
    learner = model(tiny_folder)
    set_trainable(learner, towers="visual", loss="classes")
    optimizer = make_optimizer(learner, parameter_groups(learner, lr=8e-6), betas=(0.9, 0.98), eps=1e-8)
    PAPER.apply(optimizer, 500)
    assert {round(group["lr"], 12) for group in optimizer.param_groups} == {7.469461e-06, 7.4646375e-05}
    assert {(group["betas"], group["eps"]) for group in optimizer.param_groups} == {((0.9, 0.98), 1e-8)}
    for parameter in learner.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="there is nothing to train"):
        make_optimizer(learner, parameter_groups(learner, lr=1.0), betas=(0.9, 0.98), eps=1e-8)
    assert isinstance(optimizer, torch.optim.AdamW)
