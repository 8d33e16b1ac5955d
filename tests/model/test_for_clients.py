"""Support for code that was written for transformers' classes: outputs, names of parts, hooks, parameter order."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from peers import TINY, make_ids, make_pixels, our_config, our_model, their_model
from torch import Tensor, nn

import openxclip
from openxclip.model import TransformerOutput, XCLIPOutput


@pytest.fixture
def model() -> openxclip.XCLIPModel:
    return our_model(TINY)


@pytest.fixture
def given() -> dict[str, Tensor]:
    return {"input_ids": make_ids(TINY, 3, 9, pad=0)[0], "pixel_values": make_pixels(TINY, 2)}


# Outputs


def an_output() -> XCLIPOutput:
    inner = TransformerOutput(torch.ones(2, 3, 4), torch.ones(2, 4), hidden_states=(torch.ones(1), torch.zeros(1)))
    return XCLIPOutput(loss=torch.tensor(2.0), logits_per_video=torch.ones(2, 3), mit_output=inner)


def test_an_output_is_a_dict() -> None:
    output = an_output()
    assert isinstance(output, dict)
    assert list(output) == ["loss", "logits_per_video", "mit_output"]
    assert dict(**output) == {name: output[name] for name in output}
    output["logits_per_text"] = torch.zeros(3, 2)
    assert output.logits_per_text is output["logits_per_text"] is output[2]
    output.loss = None
    assert list(output) == ["logits_per_video", "logits_per_text", "mit_output"]
    output["extra"] = 1
    assert (output.extra, output[-1]) == (1, 1)
    for change in (lambda: output.pop("extra"), lambda: output.update(loss=1), output.clear, output.popitem):
        with pytest.raises(TypeError, match="the fields of a XCLIPOutput can be set"):
            change()
    with pytest.raises(TypeError, match="not removed"):
        del output["extra"]
    with pytest.raises(KeyError, match="this XCLIPOutput has logits_per_video, logits_per_text"):
        output["no such field"]


@pytest.mark.parametrize(
    "again",
    [
        lambda output: type(output)((name, value) for name, value in output.items()),
        lambda output: type(output)(dict(output)),
        copy.copy,
        copy.deepcopy,
        lambda output: pickle.loads(pickle.dumps(output)),
    ],
    ids=["pairs", "dict", "copy", "deepcopy", "pickle"],
)
def test_outputs_can_be_rebuilt(again: Any) -> None:
    output = an_output()
    made = again(output)
    assert type(made) is XCLIPOutput
    assert list(made) == list(output)
    assert torch.equal(made.loss, output.loss)
    assert made.logits_per_text is None
    assert type(made.mit_output) is TransformerOutput
    assert torch.equal(made.mit_output.hidden_states[1], torch.zeros(1))


def test_data_parallel_gathers_every_field(model: openxclip.XCLIPModel, given: dict[str, Tensor]) -> None:
    """Gather outputs as `DataParallel` does from two devices, on one device."""
    from torch.nn.parallel import scatter_gather

    videos = [model(given["input_ids"], pixels) for pixels in given["pixel_values"].split(1)]
    joined: list[Any] = []

    def gathered(outputs: list[Any]) -> Any:
        first = outputs[0]
        if isinstance(first, Tensor):
            joined.append(first)
            return torch.cat(outputs)
        assert scatter_gather._is_namedtuple(first) is False
        if isinstance(first, dict):
            return type(first)((name, gathered([output[name] for output in outputs])) for name in first)
        return type(first)(map(gathered, zip(*outputs, strict=True)))

    whole, right = gathered(videos), model(**given)
    assert list(whole) == list(right)
    torch.testing.assert_close(whole.logits_per_video, right.logits_per_video)
    torch.testing.assert_close(whole.mit_output.pooler_output, right.mit_output.pooler_output)
    assert len(joined) == 10


def test_under_accelerate_outputs_are_float32(given: dict[str, Tensor]) -> None:
    from accelerate.utils import convert_outputs_to_fp32

    model = our_model(TINY).bfloat16().requires_grad_(False)
    output = convert_outputs_to_fp32(model.forward)(**given, output_hidden_states=True)
    assert type(output) is XCLIPOutput
    tensors = [output.logits_per_video, output.vision_model_output.pooler_output, *output.mit_output.hidden_states]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_output_flags_of_the_whole_config(given: dict[str, Tensor]) -> None:
    config = our_config(TINY)
    config.output_hidden_states, config.output_attentions = True, True
    model = openxclip.XCLIPModel(config).requires_grad_(False)
    output = model(**given)
    for part in (output.text_model_output, output.vision_model_output, output.mit_output):
        assert part.hidden_states is not None
        assert part.attentions is not None
    assert model(**given, output_attentions=False).mit_output.attentions is None
    assert len(model.get_video_features(given["pixel_values"]).hidden_states) == 4
    model.config.return_dict = False
    assert isinstance(model(**given), tuple)
    assert isinstance(model(**given, return_dict=True), XCLIPOutput)


@pytest.mark.parametrize("part", ["text_model", "vision_model", "mit"])
def test_output_flags_of_a_parts_config(part: str, given: dict[str, Tensor]) -> None:
    model = our_model(TINY).requires_grad_(False)
    module = getattr(model, part)
    inputs = {
        "text_model": given["input_ids"],
        "vision_model": given["pixel_values"],
        "mit": torch.randn(2, 8, 128),
    }[part]
    assert module(inputs).hidden_states is None
    module.config.output_hidden_states = True
    assert module(inputs).hidden_states is not None
    assert module.encoder(torch.randn(8, 3, module.encoder.layers[0].self_attn.embed_dim)).hidden_states is not None
    module.config.return_dict = False
    assert len(module(inputs)) == 3


# Parts


def test_a_tower_is_its_own_inner_model(given: dict[str, Tensor]) -> None:
    config = our_config(TINY)
    vision = openxclip.XCLIPVisionModel(config.vision_config).eval()
    text = openxclip.XCLIPTextModel(config.text_config).eval()
    assert vision.vision_model is vision
    assert text.text_model is text
    assert not any("vision_model" in name for name, _ in vision.named_modules())
    assert not any(name.startswith("vision_model") for name in vision.state_dict())


def test_replaced_embeddings_take_effect(given: dict[str, Tensor]) -> None:
    class Brighter(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
            out: Tensor = self.inner(pixel_values + 1, interpolate_pos_encoding=interpolate_pos_encoding)
            return out

    tower = our_model(TINY).vision_model.requires_grad_(False)
    right = tower(given["pixel_values"] + 1).last_hidden_state
    tower.vision_model.embeddings = Brighter(tower.vision_model.embeddings)
    torch.testing.assert_close(tower(given["pixel_values"]).last_hidden_state, right)


class Detector(nn.Module):
    """A client's class that holds a tower."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.backbone = tower
        self.head = nn.Linear(96, 1)


@pytest.mark.parametrize("where", ["bare", "in a wrapper", "in a wrapper that holds the inner model"])
@pytest.mark.parametrize("with_ids", [False, True])
def test_a_tower_of_transformers_4_loads(where: str, with_ids: bool, given: dict[str, Tensor]) -> None:
    """A 4.x tower has keys `vision_model.…`, and an index buffer before 4.31."""
    config = our_config(TINY)
    trained = our_model(TINY).vision_model
    state = {f"vision_model.{name}": tensor for name, tensor in trained.state_dict().items()}
    if with_ids:
        state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tower: nn.Module = openxclip.XCLIPVisionModel(config.vision_config)
    loaded: nn.Module = tower
    if where == "in a wrapper":
        loaded = Detector(tower)
        state = {f"backbone.{name}": tensor for name, tensor in state.items()} | {
            f"head.{name}": tensor for name, tensor in loaded.head.state_dict().items()
        }
    elif where != "bare":  # `self.backbone = XCLIPVisionModel(…).vision_model`
        loaded = Detector(tower.vision_model)
        state = {name.replace("vision_model", "backbone"): tensor for name, tensor in state.items()} | {
            f"head.{name}": tensor for name, tensor in loaded.head.state_dict().items()
        }
    before = dict(state)
    loaded.load_state_dict(state)
    assert state == before  # the caller's dict is as it was
    assert all(torch.equal(tower.state_dict()[name], tensor) for name, tensor in trained.state_dict().items())


def test_unexpected_keys_of_a_tower_are_refused() -> None:
    tower = openxclip.XCLIPTextModel(our_config(TINY).text_config)
    state = {f"text_model.{name}": tensor for name, tensor in tower.state_dict().items()}
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "no_such"'):
        tower.load_state_dict({**state, "text_model.no_such": torch.ones(1)})
    state.pop("text_model.final_layer_norm.bias")
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "final_layer_norm.bias"'):
        tower.load_state_dict(state)


def test_encoders_accept_bool_and_additive_masks(model: openxclip.XCLIPModel, given: dict[str, Tensor]) -> None:
    """Masks are bool, or numbers to add to the scores as in transformers 4; with attention maps and without."""
    encoder = model.text_model.requires_grad_(False).encoder
    states = model.text_model.embeddings(given["input_ids"])
    seen = given["input_ids"] != 0
    causal = torch.ones(9, 9, dtype=torch.bool).tril()
    lowest = torch.finfo(torch.float32).min
    added_causal = torch.zeros(3, 1, 9, 9).masked_fill(~causal, lowest)
    added = torch.zeros(3, 1, 9, 9).masked_fill(~seen[:, None, None, :], lowest)
    right = encoder(states, causal & seen[:, None, None, :]).last_hidden_state
    for masks in ((seen[:, None, None, :], causal), (added, added_causal), (seen[:, None, None, :], added_causal)):
        for weights in (False, True):
            actual = encoder(
                inputs_embeds=states,
                attention_mask=masks[0],
                causal_attention_mask=masks[1],
                output_attentions=weights,
                return_dict=False,
            )
            torch.testing.assert_close(actual[0], right)
            assert len(actual) == 1 + weights
    assert encoder(states, is_causal=True).pooler_output is None


# Hooks


def test_every_part_of_a_block_is_called_once_with_all_tokens(
    model: openxclip.XCLIPModel, given: dict[str, Tensor]
) -> None:
    """Hooks of Grad-CAM and similar tools see the same calls as in transformers."""
    seen: dict[str, list[tuple[int, ...]]] = {"ours": [], "theirs": []}
    theirs = their_model(TINY)
    for who, whose in (("ours", model), ("theirs", theirs)):
        block = whose.vision_model.encoder.layers[1]
        for name in (
            "layer_norm1",
            "self_attn.q_proj",
            "self_attn.out_proj",
            "layer_norm2",
            "mlp",
            "mlp.activation_fn",
        ):
            block.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, out, name=name, who=who: seen[who].append((name, *out.shape))
            )
        block.self_attn.register_forward_hook(
            lambda _module, _inputs, out, who=who: seen[who].append(("self_attn", *out[0].shape))
        )
        with torch.no_grad():
            whose.vision_model(given["pixel_values"].flatten(0, 1))
    assert seen["ours"] == seen["theirs"]
    assert ("layer_norm1", 16, 18, 96) in seen["ours"]


def test_grad_cam_on_the_last_block(model: openxclip.XCLIPModel, given: dict[str, Tensor]) -> None:
    maps: list[Tensor] = []
    for whose in (model, their_model(TINY)):
        kept: dict[str, Tensor] = {}
        norm = whose.vision_model.encoder.layers[-1].layer_norm1
        norm.register_forward_hook(lambda _module, _inputs, out, kept=kept: kept.update(states=out))
        norm.register_full_backward_hook(lambda _module, _ins, outs, kept=kept: kept.update(gradient=outs[0]))
        whose(**given).logits_per_video[0, 0].backward()
        maps.append((kept["states"] * kept["gradient"]).sum(-1)[:, 1:-1])
    assert maps[0].shape == (16, 16)
    torch.testing.assert_close(*maps, atol=1e-4, rtol=1e-3)


# Order of parameters, and gradient checkpointing


def test_parameters_are_in_the_order_of_transformers_5() -> None:
    ours, theirs = our_model(TINY), their_model(TINY)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for tower in ("text_model", "vision_model"):
        names = [name for name, _ in getattr(ours, tower).named_parameters()]
        assert names == [name for name, _ in getattr(theirs, tower).named_parameters()]


def test_optimizer_states_are_interchangeable(given: dict[str, Tensor]) -> None:
    ours, theirs = our_model(TINY), their_model(TINY)
    there, here = (torch.optim.AdamW(whose.parameters(), lr=1e-3) for whose in (theirs, ours))
    theirs(given["input_ids"][:2], given["pixel_values"], return_loss=True).loss.backward()
    there.step()
    here.load_state_dict(there.state_dict())
    by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.equal(here.state[parameter]["exp_avg"], there.state[by_name[name]]["exp_avg"]), name


def test_a_seed_gives_the_same_initialization_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters are in transformers' order, but are initialised in another order: queries first."""
    drawn: list[Tensor] = []
    original = nn.init.trunc_normal_
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, **how: drawn.append(tensor) or original(tensor, **how))
    model = openxclip.XCLIPModel(our_config(TINY))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    order = [names[id(tensor)].removeprefix("mit.encoder.layers.0.") for tensor in drawn]
    assert order[1:5] == [f"self_attn.{name}_proj.weight" for name in ("q", "k", "v", "out")]


@pytest.mark.parametrize("cls", ["XCLIPModel", "XCLIPVisionModel", "XCLIPTextModel"])
def test_gradient_checkpointing_from_the_config(cls: str) -> None:
    whole = our_config(TINY)
    config = {"XCLIPModel": whole, "XCLIPVisionModel": whole.vision_config, "XCLIPTextModel": whole.text_config}[cls]
    assert not getattr(openxclip, cls)(config).is_gradient_checkpointing
    config.gradient_checkpointing = True
    assert getattr(openxclip, cls)(config).is_gradient_checkpointing
