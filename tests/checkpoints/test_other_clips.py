"""CLIPs whose configuration has settings that no tensor shows: X-CLIP supports the settings or refuses the CLIP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from made_models import assert_starts_from, clip_model, openai_state, sizes
from safetensors.torch import save_file
from torch import Tensor

from openxclip import XCLIPModel
from openxclip.checkpoints import read_checkpoint
from openxclip.errors import CheckpointError


@pytest.fixture(scope="module")
def clip() -> transformers.CLIPModel:
    return clip_model(act="gelu")


def open_clip_folder(clip: transformers.CLIPModel, folder: Path, **settings: Any) -> Path:
    """Write a folder of open_clip. `settings` are keys of `model_cfg`; vision_cfg and text_cfg extend the towers'."""
    text, vision = clip.config.text_config, clip.config.vision_config
    towers: dict[str, dict[str, Any]] = {
        "vision_cfg": {
            "image_size": 32, "layers": 2, "width": vision.hidden_size, "patch_size": 8, "head_width": 64,
            **settings.pop("vision_cfg", {}),
        },
        "text_cfg": {
            "context_length": 77, "vocab_size": text.vocab_size, "width": text.hidden_size, "heads": 1, "layers": 2,
            **settings.pop("text_cfg", {}),
        },
    }  # fmt: skip
    config = {"embed_dim": clip.config.projection_dim, **towers, **settings}
    folder.mkdir(exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    save_file(openai_state(clip), folder / "open_clip_model.safetensors")
    return folder


def with_eps(clip: transformers.CLIPModel, *, text: float, vision: float) -> transformers.CLIPModel:
    for module in clip.text_model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = text
    for module in clip.vision_model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = vision
    return clip


# ---------------------------------------------------------------------------------------------------- open_clip


def test_epsilons_of_open_clip_are_taken_over(tmp_path: Path) -> None:
    clip = with_eps(clip_model(act="gelu"), text=0.1, vision=0.3)
    norms = {"vision_cfg": {"norm_kwargs": {"eps": 0.3}}, "text_cfg": {"norm_kwargs": {"eps": 0.1}}}
    assert_starts_from(XCLIPModel.from_clip(open_clip_folder(clip, tmp_path, **norms), num_frames=4), clip)


def test_gelu_by_tanh_of_open_clip_is_taken_over(tmp_path: Path) -> None:
    clip = clip_model(act="gelu_pytorch_tanh")
    tanh = {"act_kwargs": {"approximate": "tanh"}}
    folder = open_clip_folder(clip, tmp_path, vision_cfg=tanh, text_cfg=tanh)
    assert_starts_from(XCLIPModel.from_clip(folder, num_frames=4), clip, tolerance=1e-6)
    settings = XCLIPModel.from_clip(folder, num_frames=4, hidden_act="gelu").config
    assert settings.vision_config.hidden_act == settings.text_config.hidden_act == "gelu"


def test_settings_equal_to_the_defaults_are_read(clip: transformers.CLIPModel, tmp_path: Path) -> None:
    folder = open_clip_folder(
        clip,
        tmp_path,
        quick_gelu=False,
        init_logit_bias=None,
        custom_text=False,
        vision_cfg={"pool_type": "tok", "no_ln_pre": False, "attentional_pool": False, "act_kwargs": None,
                    "final_ln_after_pool": True, "patch_dropout": 0.5, "timm_pool": "avg"},
        text_cfg={"pool_type": "eos", "eos_id": 98, "no_causal_mask": False, "act_kwargs": {"approximate": "none"},
                  "norm_kwargs": {}, "hf_tokenizer_name": "", "pad_id": 3, "final_ln_after_pool": True},
    )  # fmt: skip
    assert_starts_from(XCLIPModel.from_clip(folder, num_frames=4), clip)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_cfg": {"pool_type": "last"}}, "its text_cfg says pool_type='last', which X-CLIP doesn't support"),
        ({"text_cfg": {"pool_type": "first"}}, "its text_cfg says pool_type='first'"),
        ({"text_cfg": {"pool_type": "eos"}}, "says eos_id=2 in a vocabulary of 99"),
        ({"text_cfg": {"pool_type": "eos", "eos_id": 97}}, "says eos_id=97 in a vocabulary of 99"),
        ({"text_cfg": {"no_causal_mask": True}}, "its text_cfg says no_causal_mask=True"),
        ({"text_cfg": {"hf_tokenizer_name": "bert-base-uncased"}}, "hf_tokenizer_name='bert-base-uncased'"),
        ({"text_cfg": {"norm_kwargs": {"elementwise_affine": False}}}, "its text_cfg says norm_kwargs="),
        ({"text_cfg": {"norm_kwargs": {"eps": "small"}}}, "layer_norm_eps='small': must be a number"),
        ({"text_cfg": {"act_kwargs": {"inplace": True}}}, "its text_cfg says act_kwargs="),
        ({"text_cfg": {"something_new": 3}}, "its text_cfg says something_new=3"),
        ({"vision_cfg": {"pool_type": "avg"}}, "its vision_cfg says pool_type='avg'"),
        ({"vision_cfg": {"global_average_pool": True}}, "its vision_cfg says global_average_pool=True"),
        ({"vision_cfg": {"no_ln_pre": True}}, "its vision_cfg says no_ln_pre=True"),
        ({"vision_cfg": {"input_patchnorm": True}}, "its vision_cfg says input_patchnorm=True"),
        (
            {"quick_gelu": True, "vision_cfg": {"act_kwargs": {"approximate": "tanh"}}},
            "its vision_cfg says act_kwargs=",
        ),
        ({"init_logit_bias": -10}, "its model_cfg says init_logit_bias=-10"),
    ],
)
def test_unsupported_settings_are_refused(
    settings: dict[str, Any], message: str, clip: transformers.CLIPModel, tmp_path: Path
) -> None:
    folder = open_clip_folder(clip, tmp_path, **settings)
    for read in (read_checkpoint, XCLIPModel.from_clip):
        with pytest.raises(CheckpointError) as error:
            read(folder)
        assert str(error.value).startswith(f"{folder / 'open_clip_config.json'}: ")
        assert message in str(error.value)
        assert "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------------- Hugging Face


def hugging_face_folder(clip: transformers.CLIPModel, folder: Path, **text: Any) -> Path:
    clip.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values["text_config"] |= text
    values["text_config"] = {key: value for key, value in values["text_config"].items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("end", [2, 98])
def test_the_highest_id_as_end_of_text_is_read(end: int, clip: transformers.CLIPModel, tmp_path: Path) -> None:
    folder = hugging_face_folder(clip, tmp_path, eos_token_id=end)
    theirs = transformers.CLIPModel.from_pretrained(folder).eval()
    assert_starts_from(XCLIPModel.from_clip(folder, num_frames=4), theirs)


@pytest.mark.parametrize("end", [3, 97, 99, 49407, None, "x"])
def test_another_end_of_text_is_refused(end: int | str | None, clip: transformers.CLIPModel, tmp_path: Path) -> None:
    folder = hugging_face_folder(clip, tmp_path, eos_token_id=end)
    shown = 49407 if end is None else end  # transformers' default
    with pytest.raises(
        CheckpointError, match=f"says eos_token_id={shown!r} in a vocabulary of 99, but X-CLIP reads a text"
    ):
        XCLIPModel.from_clip(folder, num_frames=4)


def test_epsilons_and_gelu_by_tanh_of_hugging_face_are_taken_over(tmp_path: Path) -> None:
    clip = with_eps(clip_model(act="gelu_pytorch_tanh"), text=0.1, vision=0.3)
    clip.config.text_config.layer_norm_eps, clip.config.vision_config.layer_norm_eps = 0.1, 0.3
    folder = hugging_face_folder(clip, tmp_path)
    assert_starts_from(XCLIPModel.from_clip(folder, num_frames=4), clip, tolerance=1e-6)


# ---------------------------------------------------------------------------------------------------- OpenAI's class


def in_openais_order(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in the order of OpenAI's class, which lists attention before the norm that precedes it."""
    parts = ["attn.in_proj", "attn.out_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2"]

    def place(name: str) -> tuple[Any, ...]:
        if ".resblocks." not in name:
            return ("",)
        tower, _, rest = name.partition(".resblocks.")
        number, _, part = rest.partition(".")
        stem = next(i for i, one in enumerate(parts) if part.startswith(one))
        return (tower, int(number), stem, part.endswith("bias"))

    return dict(sorted(state.items(), key=lambda item: place(item[0])))


@pytest.mark.parametrize("half", [False, True])
def test_a_bare_state_dict_of_openais_class_is_recognised(half: bool, tmp_path: Path) -> None:
    clip = clip_model(act="quick_gelu")
    clip = clip.half().float() if half else clip
    state = in_openais_order(openai_state(clip))
    torch.save({name: value.half() if half else value for name, value in state.items()}, tmp_path / "x.pt")
    with pytest.warns(
        UserWarning, match=r"in the order of OpenAI's class, so QuickGELU is assumed; .*--activation gelu\."
    ):
        model = XCLIPModel.from_clip(tmp_path / "x.pt", num_frames=4)
    assert_starts_from(model, clip)
    assert read_checkpoint(tmp_path / "x.pt", hidden_act="gelu").format == "openai"
    assert XCLIPModel.from_clip(tmp_path / "x.pt", hidden_act="gelu").config.text_config.hidden_act == "gelu"


def test_openais_sizes_are_recognised_without_a_warning(tmp_path: Path) -> None:
    clip = clip_model(act="quick_gelu")
    torch.save({**in_openais_order(openai_state(clip)), **sizes(clip)}, tmp_path / "x.pt")
    assert_starts_from(XCLIPModel.from_clip(tmp_path / "x.pt", num_frames=4), clip)


def test_other_files_in_that_order_are_not_taken_for_openais(clip: transformers.CLIPModel, tmp_path: Path) -> None:
    state = in_openais_order(openai_state(clip))
    torch.save({"state_dict": state, "epoch": 3, "name": "x"}, tmp_path / "training.pt")
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "wrapped.pt")
    torch.save(dict(sorted(state.items())), tmp_path / "sorted.pt")
    save_file(state, tmp_path / "x.safetensors")
    for name in ("training.pt", "wrapped.pt", "sorted.pt", "x.safetensors"):
        with pytest.warns(UserWarning, match="nothing in it tells the activation, so GELU is assumed"):
            found = read_checkpoint(tmp_path / name)
        assert (found.format, found.config["text_config"]["hidden_act"]) == ("open_clip", "gelu")
