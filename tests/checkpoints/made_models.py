"""Files of tiny random models from every source. The name mappings here are independent of the package's table."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from peers import quiet_transformers, redraw
from reference import AuthorsXCLIP
from torch import Tensor, nn

AUTHORS: dict[str, Any] = {
    "image_size": 32,
    "patch": 8,
    "vision_width": 128,
    "vision_layers": 2,
    "vision_heads": 2,
    "joint": 64,
    "vocab": 99,
    "context": 77,
    "text_width": 64,
    "text_layers": 2,
    "text_heads": 1,
    "frames": 4,
}


def authors_model(seed: int = 0, **settings: Any) -> AuthorsXCLIP:
    model = AuthorsXCLIP(**{**AUTHORS, **settings}).eval()
    redraw(model, seed)
    return model


def clip_model(seed: int = 0, *, act: str = "quick_gelu", **settings: Any) -> transformers.CLIPModel:
    """Return transformers' CLIP with heads 64 wide, like OpenAI's."""
    size = {**AUTHORS, **settings}
    config = transformers.CLIPConfig(
        text_config={
            "vocab_size": size["vocab"],
            "hidden_size": size["text_width"],
            "intermediate_size": 4 * size["text_width"],
            "num_hidden_layers": size["text_layers"],
            "num_attention_heads": size["text_heads"],
            "max_position_embeddings": size["context"],
            "hidden_act": act,
            "eos_token_id": 2,
            "bos_token_id": 0,
        },
        vision_config={
            "hidden_size": size["vision_width"],
            "intermediate_size": 4 * size["vision_width"],
            "num_hidden_layers": size["vision_layers"],
            "num_attention_heads": size["vision_heads"],
            "image_size": size["image_size"],
            "patch_size": size["patch"],
            "hidden_act": act,
        },
        projection_dim=size["joint"],
    )
    with quiet_transformers():
        model = transformers.CLIPModel(config).eval()
    redraw(model, seed)
    return model


def _blocks(state: dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    layers = {name.split(".")[3] for name in state if name.startswith(f"{theirs}.encoder.layers.")}
    for i in layers:
        at, to = f"{theirs}.encoder.layers.{i}", f"{ours}.resblocks.{i}"
        for kind in ("weight", "bias"):
            made[f"{to}.attn.in_proj_{kind}"] = torch.cat([state[f"{at}.self_attn.{x}_proj.{kind}"] for x in "qkv"])
            made[f"{to}.attn.out_proj.{kind}"] = state[f"{at}.self_attn.out_proj.{kind}"]
            made[f"{to}.ln_1.{kind}"] = state[f"{at}.layer_norm1.{kind}"]
            made[f"{to}.ln_2.{kind}"] = state[f"{at}.layer_norm2.{kind}"]
            made[f"{to}.mlp.c_fc.{kind}"] = state[f"{at}.mlp.fc1.{kind}"]
            made[f"{to}.mlp.c_proj.{kind}"] = state[f"{at}.mlp.fc2.{kind}"]
    return made


def openai_state(model: transformers.CLIPModel) -> dict[str, Tensor]:
    """A CLIP's weights as OpenAI and open_clip name them."""
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    made = {
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        made[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        made[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        made[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
    return {
        **made,
        **_blocks(state, "vision_model", "visual.transformer"),
        **_blocks(state, "text_model", "transformer"),
    }


def sizes(model: transformers.CLIPModel) -> dict[str, Tensor]:
    """Tensors of OpenAI's archives that are no weights."""
    text = model.config.text_config
    values = (model.config.vision_config.image_size, text.max_position_embeddings, text.vocab_size)
    names = ("input_resolution", "context_length", "vocab_size")
    return {name: torch.tensor(value) for name, value in zip(names, values, strict=True)}


class _Holder(nn.Module):
    """A module with the tensors of a state dict under their names."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        below: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            head, _, rest = name.partition(".")
            if rest:
                below.setdefault(head, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(name, tensor)
        for head, inner in below.items():
            self.add_module(head, _Holder(inner))

    def forward(self, x: Tensor) -> Tensor:
        return x


def script_archive(state: dict[str, Tensor], path: Path) -> Path:
    """Write a TorchScript archive like OpenAI's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own of TorchScript, which old files still are
        torch.jit.save(torch.jit.trace(_Holder(state), torch.zeros(1), check_trace=False), str(path))
    return path


def without_message(
    attention: Any, tokens: torch.Tensor, *_: Any, of_a_frame: int | None = None
) -> tuple[torch.Tensor, None]:
    """In place of an attention's forward: all tokens but the last, which is the message, attend to each other.

    Calls with `of_a_frame` tokens, which have no message among them, stay as they are.
    """
    if tokens.shape[1] == of_a_frame:
        return type(attention).forward(attention, tokens)
    attended, _ = type(attention).forward(attention, tokens[:, :-1])
    return torch.nn.functional.pad(attended, (0, 0, 0, 1)), None


@torch.no_grad()
def assert_starts_from(model: Any, clip: transformers.CLIPModel, tolerance: float = 1e-5) -> None:
    """Without attention to messages, an X-CLIP's frame and text features equal the CLIP's."""
    size = model.config.vision_config.image_size
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(6, 3, size, size, generator=generator)
    ids = torch.randint(1, 90, (4, 9), generator=generator)
    ids[:, -1] = 98
    frames = model.config.vision_config.num_frames
    model.config.vision_config.num_frames = 3
    heard = model.visual_projection(model.vision_model(pixels).pooler_output)
    for block in model.vision_model.encoder.layers:
        attention = block.self_attn
        attention.forward = partial(without_message, attention)
    found = model.visual_projection(model.vision_model(pixels).pooler_output)
    for block in model.vision_model.encoder.layers:
        del block.self_attn.forward
    model.config.vision_config.num_frames = frames
    expected = clip.visual_projection(clip.vision_model(pixels).pooler_output)
    assert (heard - expected).abs().max() > 1e-3  # otherwise the silencing had no effect
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
    found = model.get_text_features(ids)
    expected = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()
    assert torch.equal(model.logit_scale, clip.logit_scale.to(model.dtype))
