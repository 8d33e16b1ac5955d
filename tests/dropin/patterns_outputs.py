"""Patterns of outputs: access by attribute, name and position; losses; hidden states; use by frameworks."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import torch
import torch.nn.functional as F
from registry import DIFFERS, EQUAL, ONLY_HERE, pattern
from torch import Tensor

NAMES = ("logits_per_video", "logits_per_text", "text_embeds", "video_embeds")
MIT = "MIT's states are there, as in 4.x; 5.x doesn't return them"


def forward(lib: Any, given: Any, **options: Any) -> Any:
    return given.model(lib)(given.input_ids, given.pixel_values, **options)


def rebuilt(data: Any, change: Any) -> Any:
    """Rebuild outputs as Accelerate and DataParallel do."""
    if isinstance(data, Tensor):
        return change(data)
    if isinstance(data, dict):
        return type(data)((name, rebuilt(value, change)) for name, value in data.items())
    return type(data)(rebuilt(value, change) for value in data) if isinstance(data, list | tuple) else data


@pattern("outputs")
def fields_by_name(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    return {name: out[name] for name in NAMES}


@pattern("outputs", outcome=DIFFERS, outcome_4=EQUAL, reason="positions are 4.x's; 5.x put logits_per_text first")
def fields_by_position(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    return [out[0], out[1]]


@pattern("outputs", outcome=DIFFERS, outcome_4=EQUAL, reason="positions are 4.x's; 5.x put logits_per_text first")
def names_in_order(lib: Any, given: Any) -> Any:
    return list(forward(lib, given).keys())


@pattern("outputs")
def dict_methods(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    return [
        isinstance(out, dict),
        isinstance(out.vision_model_output, dict),
        sorted(out),
        "loss" in out,
        out.get("loss"),
    ]


@pattern("outputs")
def unpacked_as_keywords(lib: Any, given: Any) -> Any:
    def gathered(**fields: Any) -> Any:
        return {name: fields[name] for name in NAMES}

    return gathered(**forward(lib, given))


@pattern("outputs")
def item_assignment(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    out["logits_per_video"] = out["logits_per_video"] * 2
    out["prediction"] = out.logits_per_video.argmax(-1)
    return [out.logits_per_video, out.prediction, "prediction" in out]


@pattern("outputs")
def attribute_assignment(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    out.video_embeds = F.normalize(out.video_embeds + 1, dim=-1)
    return out["video_embeds"]


@pattern("outputs")
def pop_of_a_field(lib: Any, given: Any) -> Any:
    return forward(lib, given).pop("text_embeds")


@pattern("outputs")
def deletion_of_a_field(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    del out["text_embeds"]
    return sorted(out)


@pattern("outputs")
def missing_field(lib: Any, given: Any) -> Any:
    return forward(lib, given)["logits_per_image"]


@pattern("outputs")
def missing_output_attribute(lib: Any, given: Any) -> Any:
    return forward(lib, given).logits_per_image


@pattern("outputs")
def missing_position(lib: Any, given: Any) -> Any:
    return forward(lib, given)[20]


@pattern("outputs")
def rebuilt_from_pairs(lib: Any, given: Any) -> Any:
    out = rebuilt(forward(lib, given), lambda tensor: tensor * 2)
    return [out.logits_per_video, out.vision_model_output.pooler_output, out.loss]


@pattern("outputs")
def copied_and_pickled(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    with torch.no_grad():
        out = rebuilt(out, lambda tensor: tensor.detach())
    return [
        copy.deepcopy(out).logits_per_video,
        pickle.loads(pickle.dumps(out)).video_embeds,
        copy.copy(out)["text_embeds"],
    ]


@pattern("outputs")
def tower_output_as_a_tuple(lib: Any, given: Any) -> Any:
    text = given.model(lib).text_model(given.input_ids, output_hidden_states=True).to_tuple()
    return [text[0], text[1], *text[2]]


@pattern("outputs", outcome=DIFFERS, outcome_4=DIFFERS, reason="return_dict=False has mit_output too, in 4.x's order")
def return_dict_false(lib: Any, given: Any) -> Any:
    return [type(value).__name__ for value in forward(lib, given, return_dict=False)[:7]]


@pattern("outputs")
def contrastive_loss(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids[:2], given.pixel_values, return_loss=True).loss


@pattern("outputs", outcome=DIFFERS, outcome_4=EQUAL, reason="positions are 4.x's; 5.x put logits_per_text first")
def loss_and_logits_by_position(lib: Any, given: Any) -> Any:
    out = given.model(lib)(given.input_ids[:2], given.pixel_values[:, :, :, :, :].contiguous(), return_loss=True)
    return [out[0], out[1]]


@pattern("outputs", outcome=DIFFERS, outcome_4=DIFFERS, reason="a ValueError in words, for an IndexError in the loss")
def contrastive_loss_of_unequal_numbers(lib: Any, given: Any) -> Any:
    return forward(lib, given, return_loss=True).loss


@pattern("outputs", outcome=DIFFERS, outcome_4=ONLY_HERE, reason="labels= give class cross-entropy; 5.x ignores them")
def loss_with_labels(lib: Any, given: Any) -> Any:
    return forward(lib, given, labels=torch.tensor([2, 0])).loss


@pattern("outputs", outcome_4=EQUAL)
def hidden_states_of_the_towers(lib: Any, given: Any) -> Any:
    out = forward(lib, given, output_hidden_states=True)
    return [list(out.text_model_output.hidden_states), list(out.vision_model_output.hidden_states)]


@pattern("outputs", outcome=ONLY_HERE, outcome_4=EQUAL)
def hidden_states_of_mit(lib: Any, given: Any) -> Any:
    return list(forward(lib, given, output_hidden_states=True).mit_output.hidden_states)


@pattern("outputs")
def attention_maps(lib: Any, given: Any) -> Any:
    model = given.model(lib, attn_implementation="eager")
    out = model(given.input_ids, given.pixel_values, output_attentions=True)
    return [list(out.text_model_output.attentions), list(out.vision_model_output.attentions)]


@pattern("outputs", outcome=DIFFERS, outcome_4=EQUAL, reason="maps are always there; 5.x's default attention has none")
def attention_maps_of_the_default_attention(lib: Any, given: Any) -> Any:
    found = forward(lib, given, output_attentions=True).vision_model_output.attentions
    return [None if one is None else list(one.shape) for one in found or ()]


@pattern("outputs")
def attention_rollout(lib: Any, given: Any) -> Any:
    model = given.model(lib, attn_implementation="eager")
    maps = model.vision_model(given.pixel_values[0], output_attentions=True).attentions
    joint = torch.eye(maps[0].shape[-1])
    for one in maps:
        joint = (one.mean(1) + torch.eye(one.shape[-1])) / 2 @ joint
    return joint[:, 0, 1:-1]


@pattern("outputs")
def hidden_states_from_the_config(lib: Any, given: Any) -> Any:
    model = given.model(lib, output_hidden_states=True)
    text = model.text_model(given.input_ids, output_hidden_states=model.config.output_hidden_states)
    return list(text.hidden_states)


@pattern("outputs")
def hidden_states_from_a_tower_config(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    model.text_model.config.output_hidden_states = True
    return list(model.text_model(given.input_ids).hidden_states)


@pattern("outputs")
def no_hidden_states_by_default(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    return [out.text_model_output.hidden_states, out.vision_model_output.get("attentions")]


@pattern("outputs")
def probabilities_over_texts_and_videos(lib: Any, given: Any) -> Any:
    out = forward(lib, given)
    return [out.logits_per_video.softmax(-1), out.logits_per_text.softmax(-1), out.logits_per_text.T]


@pattern("outputs")
def logits_from_the_embeddings(lib: Any, given: Any) -> Any:
    model = given.model(lib)
    out = model(given.input_ids, given.pixel_values)
    return model.logit_scale.exp() * torch.einsum("bd,bkd->bk", out.video_embeds, out.text_embeds)


@pattern("outputs", tolerance=5e-2)
def float32_under_accelerate(lib: Any, given: Any) -> Any:
    from accelerate.utils import convert_outputs_to_fp32

    model = given.model(lib, torch_dtype=torch.bfloat16)
    out = convert_outputs_to_fp32(model.forward)(given.input_ids, given.pixel_values.bfloat16())
    return [out.logits_per_video, str(out.logits_per_video.dtype), str(out.mit_output.pooler_output.dtype)]


@pattern("outputs")
def pytree_flattening(lib: Any, given: Any) -> Any:
    from torch.utils import _pytree as pytree

    out = pytree.tree_map(lambda value: value + 1, forward(lib, given))
    return [out.logits_per_video, out.text_model_output.pooler_output]


@pattern("outputs", outcome=ONLY_HERE)
def video_without_texts(lib: Any, given: Any) -> Any:
    return given.model(lib)(pixel_values=given.pixel_values).video_embeds


@pattern("outputs", outcome=DIFFERS, outcome_4=ONLY_HERE, reason="a set for each video; 5.x flattens them into one")
def separate_texts_for_each_video(lib: Any, given: Any) -> Any:
    ids = torch.stack([given.input_ids, given.input_ids.flip(0)])
    return given.model(lib)(ids, given.pixel_values).logits_per_video


@pattern("outputs", outcome=DIFFERS, outcome_4=DIFFERS, reason="a ValueError in words, for an AttributeError inside")
def texts_and_videos_missing(lib: Any, given: Any) -> Any:
    return given.model(lib)()


@pattern("outputs", outcome=DIFFERS, outcome_4=DIFFERS, reason="None in place of ids is refused in words")
def lists_instead_of_tensors(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids.tolist(), given.pixel_values)


@pattern("outputs")
def frames_of_another_size(lib: Any, given: Any) -> Any:
    return given.model(lib)(given.input_ids, torch.zeros(1, 4, 3, 40, 40))


@pattern("outputs")
def text_longer_than_the_context(lib: Any, given: Any) -> Any:
    return given.model(lib)(torch.ones(1, 78, dtype=torch.long), given.pixel_values)
