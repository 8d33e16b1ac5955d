"""Patterns of the model's parts: called by name, hooked, replaced; parameters and gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from patterns_models import logits
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern
from torch import Tensor, nn


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2))


# Parts called by name


@pattern("submodules")
def prompts_generator_by_name(lib: Any, given: Any) -> Any:
    return given.model(lib).prompts_generator(text=noise(2, 3, 16), visual=noise(2, 16, 16))


@pattern("submodules")
def layers_of_the_prompts_by_position(lib: Any, given: Any) -> Any:
    layer = given.model(lib).prompts_generator.decoder[0]
    text, visual = noise(2, 3, 16), noise(2, 16, 16)
    return [layer(text, visual), layer.cross_attn(text, visual, visual), layer.mlp(text)]


@pattern("submodules")
def cross_attention_by_name(lib: Any, given: Any) -> Any:
    attention = given.model(lib).prompts_generator.decoder[1].cross_attn
    return attention(queries=noise(2, 3, 16), keys=noise(2, 5, 16), values=noise(2, 5, 16))


@pattern("submodules")
def mit_by_position(lib: Any, given: Any) -> Any:
    out = given.model(lib).mit(noise(2, 4, 16))
    return [out[0], out[1]]


@pattern("submodules")
def hidden_states_of_mit_called_alone(lib: Any, given: Any) -> Any:
    out = given.model(lib).mit(hidden_states=noise(2, 4, 16), output_hidden_states=True, return_dict=True)
    return [out.last_hidden_state, out.pooler_output]


@pattern("submodules", outcome=ONLY_HERE, outcome_4=EQUAL)
def hidden_states_of_mit_in_the_output(lib: Any, given: Any) -> Any:
    out = given.model(lib).mit(hidden_states=noise(2, 4, 16), output_hidden_states=True, return_dict=True)
    return list(out.hidden_states)


@pattern("submodules")
def encoder_of_mit_by_name(lib: Any, given: Any) -> Any:
    return given.model(lib).mit.encoder(inputs_embeds=noise(2, 4, 16))[0]


@pattern("submodules")
def vision_encoder_by_name(lib: Any, given: Any) -> Any:
    return given.model(lib).vision_model.encoder(inputs_embeds=noise(8, 17, 24)).last_hidden_state


@pattern("submodules", outcome=DIFFERS, outcome_4=EQUAL, reason="5.x's encoder ignores the flag; the states are 4.x's")
def hidden_states_of_the_vision_encoder(lib: Any, given: Any) -> Any:
    out = given.model(lib).vision_model.encoder(inputs_embeds=noise(8, 17, 24), output_hidden_states=True)
    return [list(x.shape) for x in out.hidden_states] if "hidden_states" in out else None


@pattern("submodules")
def text_encoder_with_an_additive_mask(lib: Any, given: Any) -> Any:
    """Learned prompts: the client computes embeddings, and the mask is added to the scores."""
    model = given.model(lib)
    lowest = torch.finfo(torch.float32).min
    mask = torch.full((5, 5), lowest).triu(1)[None, None].expand(2, -1, -1, -1)
    hidden = model.text_model.embeddings(inputs_embeds=noise(2, 5, 16))
    out = model.text_model.encoder(inputs_embeds=hidden, attention_mask=mask)[0]
    return model.text_model.final_layer_norm(out)[:, -1]


@pattern("submodules", outcome=DIFFERS, outcome_4=EQUAL, reason="5.x ignores causal_attention_mask; it is obeyed")
def text_encoder_with_both_masks_of_transformers_4(lib: Any, given: Any) -> Any:
    lowest = torch.finfo(torch.float32).min
    causal = torch.full((5, 5), lowest).triu(1)[None, None]
    padding = torch.zeros(2, 1, 5, 5)
    padding[1, ..., 3:] = lowest
    encoder = given.model(lib).text_model.encoder
    out = encoder(noise(2, 5, 16), attention_mask=padding, causal_attention_mask=causal, output_attentions=False)
    return out[0][0]


@pattern("submodules")
def text_embeddings_by_name(lib: Any, given: Any) -> Any:
    embeddings = given.model(lib).text_model.embeddings
    positions = torch.arange(4).flip(0)[None]
    return [
        embeddings(input_ids=given.input_ids),
        embeddings(input_ids=given.input_ids, position_ids=positions),
        embeddings(inputs_embeds=noise(2, 6, 16)),
        embeddings.position_ids,
    ]


@pattern("submodules")
def vision_embeddings_by_name(lib: Any, given: Any) -> Any:
    embeddings = given.model(lib).vision_model.embeddings
    frames = given.pixel_values[0]
    wider = F.interpolate(frames, size=(40, 48))
    return [
        embeddings(pixel_values=frames),
        embeddings(wider, interpolate_pos_encoding=True),
        embeddings.position_ids,
        [embeddings.num_patches, embeddings.num_positions, embeddings.patch_size, embeddings.embed_dim],
    ]


@pattern("submodules")
def attention_by_name(lib: Any, given: Any) -> Any:
    attention = given.model(lib).text_model.encoder.layers[0].self_attn
    return [attention(hidden_states=noise(2, 5, 16), attention_mask=None)[0], attention.num_heads, attention.scale]


@pattern("submodules")
def mlp_by_name_and_its_activation(lib: Any, given: Any) -> Any:
    mlp = given.model(lib).vision_model.encoder.layers[0].mlp
    hidden = noise(2, 5, 24)
    return [mlp(hidden_states=hidden), mlp.fc2(mlp.activation_fn(mlp.fc1(hidden)))]


@pattern("submodules", outcome=ONLY_HERE, outcome_4=EQUAL)
def vision_block_as_in_transformers_4(lib: Any, given: Any) -> Any:
    return given.model(lib).vision_model.encoder.layers[0](noise(8, 17, 24), None, None)[0]


@pattern("submodules", outcome=DIFFERS, outcome_4=EQUAL, reason="blocks return 4.x's tuples, not 5.x's tensors")
def type_of_a_blocks_output(lib: Any, given: Any) -> Any:
    layer = given.model(lib).text_model.encoder.layers[0]
    return type(layer(noise(2, 5, 16), attention_mask=None, causal_attention_mask=None)).__name__


@pattern("submodules")
def blocks_called_one_by_one(lib: Any, given: Any) -> Any:
    vision = given.model(lib).vision_model
    hidden = vision.pre_layernorm(vision.embeddings(given.pixel_values.flatten(0, 1)))
    for layer in vision.encoder.layers:
        found = layer(hidden, attention_mask=None, causal_attention_mask=None)
        hidden = found[0] if isinstance(found, tuple) else found
    return vision.post_layernorm(hidden[:, 0])


@pattern("submodules")
def tower_called_with_keywords(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    text = model.text_model(input_ids=given.input_ids, attention_mask=torch.ones(3, 4), return_dict=True)
    vision = model.vision_model(pixel_values=given.pixel_values.flatten(0, 1), return_dict=False)
    return [text.pooler_output, vision[0], vision[1]]


@pattern("submodules")
def width_attributes(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    return [model.projection_dim, model.text_embed_dim, model.vision_embed_dim, model.mit.position_embedding.shape[1]]


# Hooks


@pattern("submodules")
def shapes_that_hooks_see_in_a_block(lib: Any, given: Any) -> Any:
    model, seen = given.model(lib), []
    block = model.vision_model.encoder.layers[1]
    names = ("message_fc", "message_ln", "layer_norm1", "self_attn.q_proj", "layer_norm2", "mlp", "mlp.fc1")
    for name in names:
        block.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: seen.append([name, *out.shape])
        )
    logits(lib, given, model)
    return seen


@pattern("submodules")
def grad_cam(lib: Any, given: Any) -> Any:
    model, kept = given.model(lib), {}
    norm = model.vision_model.encoder.layers[-1].layer_norm1
    norm.register_forward_hook(lambda _module, _inputs, out: kept.update(states=out))
    norm.register_full_backward_hook(lambda _module, _ins, outs: kept.update(gradient=outs[0]))
    logits(lib, given, model)[0, 1].backward()
    return (kept["states"] * kept["gradient"]).sum(-1)


@pattern("submodules")
def attention_output_by_a_hook(lib: Any, given: Any) -> Any:
    model, kept = given.model(lib), []
    for layer in model.vision_model.encoder.layers:
        layer.self_attn.register_forward_hook(lambda _module, _inputs, out: kept.append(out[0]))
    logits(lib, given, model)
    return kept


@pattern("submodules")
def block_outputs_by_a_hook(lib: Any, given: Any) -> Any:
    model, kept = given.model(lib), {}
    for number, layer in enumerate([*model.text_model.encoder.layers, *model.vision_model.encoder.layers]):
        layer.register_forward_hook(
            lambda _module, _inputs, out, number=number: kept.update(
                {number: out[0] if isinstance(out, tuple) else out}
            )
        )
    logits(lib, given, model)
    return kept


@pattern("submodules")
def hook_that_changes_an_activation(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.text_model.encoder.layers[0].mlp.activation_fn.register_forward_hook(lambda _m, _i, out: out * 0.5)
    return logits(lib, given, model)


@pattern("submodules")
def hook_on_patches_and_norms(lib: Any, given: Any) -> Any:
    model, kept = given.model(lib), {}
    for name in ("vision_model.embeddings.patch_embedding", "vision_model.pre_layernorm", "text_model.embeddings"):
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, name=name: kept.update({name: out})
        )
    logits(lib, given, model)
    return kept


# Replaced parts


@pattern("submodules")
def activation_replaced(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    for layer in model.vision_model.encoder.layers:
        layer.mlp.activation_fn = nn.GELU()
    return logits(lib, given, model)


@pattern("submodules")
def linear_replaced_by_a_low_rank_layer(lib: Any, given: Any) -> Any:
    class LowRank(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base, self.down = base, nn.Linear(base.in_features, 2, bias=False)
            self.up = nn.Linear(2, base.out_features, bias=False)
            nn.init.constant_(self.down.weight, 0.05)
            nn.init.constant_(self.up.weight, 0.05)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.base(x) + self.up(self.down(x))
            return out

    model = given.model(lib)
    for layer in model.vision_model.encoder.layers:
        layer.self_attn.q_proj = LowRank(layer.self_attn.q_proj)
        layer.mlp.fc1 = LowRank(layer.mlp.fc1)
    return logits(lib, given, model)


@pattern("submodules")
def fewer_blocks(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.vision_model.encoder.layers = model.vision_model.encoder.layers[:1]
    return logits(lib, given, model)


@pattern("submodules")
def projection_replaced(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.visual_projection = nn.Identity()
    model.mit = nn.Identity()
    return model.visual_projection(model.vision_model(given.pixel_values[0]).pooler_output)


# Parameters and gradients


@pattern("submodules", outcome=EQUAL, outcome_4=DIFFERS, reason="parameters are in 5.x's order, which isn't 4.x's")
def order_of_parameters(lib: Any, given: Any) -> Any:
    return [name for name, _ in given.model(lib).named_parameters()]


@pattern("submodules")
def names_of_the_state_dict(lib: Any, given: Any) -> Any:
    return {name: list(tensor.shape) for name, tensor in given.model(lib).state_dict().items()}


@pattern("submodules", tolerance=2e-5)
def gradients_of_every_part(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model(given.input_ids[:2], given.pixel_values, return_loss=True).loss.backward()
    whole = {name: p.grad.norm() for name, p in model.named_parameters() if not name.endswith(("k_proj.bias",))}
    alike = "vision_model.encoder.layers.0.message_attn."  # messages are equal there: the true gradient is 0
    return {name: grad for name, grad in whole.items() if not name.startswith(alike)}


@pattern("submodules")
def gradient_of_the_pixels(lib: Any, given: Any) -> Any:
    pixels = given.pixel_values.requires_grad_()
    given.model(lib)(given.input_ids, pixels).logits_per_video.sum().backward()
    return pixels.grad


@pattern("submodules")
def parameter_groups_with_and_without_decay(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)]
    plain = sorted(n for n, p in model.named_parameters() if p.ndim < 2 or n.rpartition(".")[0] in norms)
    return [len(norms), plain]


@pattern("submodules")
def partly_frozen_by_name(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = any(part in name for part in ("mit.", "prompts_generator.", "message"))
    return [sum(p.numel() for p in model.parameters() if p.requires_grad), model.num_parameters(only_trainable=True)]
