"""Configs: fields and overrides, JSON, and configs of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers

from openxclip import AutoConfig, AutoModel, CheckpointError, XCLIPConfig, XCLIPModel, XCLIPTextConfig


@pytest.mark.parametrize("tower", ["text_config", "vision_config"])
def test_an_override_of_a_tower_keeps_its_other_fields(tower: str, tiny_folder: Path) -> None:
    whole = XCLIPConfig.from_pretrained(tiny_folder)
    changed = XCLIPConfig.from_pretrained(tiny_folder, **{tower: {"layer_norm_eps": 1e-3}})
    expected = whole.to_dict()
    expected[tower]["layer_norm_eps"] = 1e-3
    assert changed.to_dict() == expected
    assert XCLIPConfig.from_dict(whole.to_dict(), **{tower: {"layer_norm_eps": 1e-3}}) == changed
    whole.update({tower: {"layer_norm_eps": 1e-3}})
    assert whole == changed


def test_an_override_of_a_tower_reaches_the_model(tiny_folder: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder, vision_config={"layer_norm_eps": 1e-3})
    assert model.vision_model.pre_layernorm.eps == 1e-3
    assert model.config.vision_config.hidden_size == XCLIPConfig.from_pretrained(tiny_folder).vision_config.hidden_size


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, "bfloat16", "torch.bfloat16"])
def test_dtype_is_written_by_name(name: str, dtype: torch.dtype | str) -> None:
    config = XCLIPConfig(**{name: dtype})
    assert config.dtype is config.torch_dtype is torch.bfloat16
    assert json.loads(config.to_json_string())["dtype"] == "bfloat16"
    assert XCLIPConfig(dtype="float16", torch_dtype="float32").dtype is torch.float16


def test_values_that_json_lacks_are_written_as_text(tmp_path: Path) -> None:
    XCLIPConfig(mine={"types": [torch.float16], "where": torch.device("cpu")}).save_pretrained(tmp_path)
    assert XCLIPConfig.from_pretrained(tmp_path).mine == {"types": ["float16"], "where": "cpu"}


def test_only_attributes_that_were_set_are_written() -> None:
    assert (
        not {"output_attentions", "return_dict", "id2label", "dtype", "_name_or_path"} & XCLIPConfig().to_dict().keys()
    )
    config = XCLIPConfig(output_attentions=True)
    config.text_config.return_dict = False
    config.name_or_path = "/somewhere"
    assert config.to_dict()["output_attentions"] is True
    assert config.to_dict()["text_config"]["return_dict"] is False
    assert "_name_or_path" not in config.to_dict()
    assert config.to_diff_dict() == {
        "model_type": "xclip", "output_attentions": True, "text_config": {"return_dict": False}
    }  # fmt: skip
    assert json.loads(config.to_json_string(use_diff=True)) == config.to_diff_dict()
    assert XCLIPConfig(**config.to_diff_dict()) == config


@pytest.mark.parametrize("name", ["output_attentions", "output_hidden_states", "return_dict", "gradient_checkpointing"])
def test_a_flag_must_be_a_bool(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}='yes': must be True or False.$"):
        XCLIPConfig(**{name: "yes"})


@pytest.mark.parametrize("name", ["to_dict", "use_return_dict", "has_converters_heads", "from_pretrained", "__class__"])
def test_a_key_that_would_hide_a_method_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xclip", name: 1}))
    with pytest.raises(CheckpointError, match=f"config.json: '{name}' is not a field of a XCLIPConfig"):
        XCLIPConfig.from_pretrained(tmp_path)


def test_a_misspelt_option_is_refused_with_the_likely_name(tiny_folder: Path) -> None:
    with pytest.raises(TypeError, match=r"no argument 'promt_layers', .*: did you mean 'prompt_layers'"):
        XCLIPConfig.from_pretrained(tiny_folder, promt_layers=3)
    with pytest.raises(TypeError, match=r"no argument 'zzz', and its configs have no such attribute.$"):
        AutoConfig.from_pretrained(tiny_folder, zzz=3)


def test_ignored_options_of_transformers(tiny_folder: Path) -> None:
    taken = {"trust_remote_code": True, "resume_download": True, "use_auth_token": None, "proxies": None}
    assert XCLIPConfig.from_pretrained(tiny_folder, **taken) == XCLIPConfig.from_pretrained(tiny_folder)
    with pytest.raises(ValueError, match=r"^proxies= is not supported: set HTTPS_PROXY"):
        XCLIPConfig.from_pretrained(tiny_folder, proxies={"https": "localhost"})


def test_a_config_of_transformers_is_converted(tiny_folder: Path) -> None:
    theirs = transformers.XCLIPConfig.from_pretrained(tiny_folder)
    theirs.text_config.layer_norm_eps, theirs.output_hidden_states, theirs.mine = 1e-3, True, "kept"
    ours = XCLIPConfig.of(theirs)
    expected = XCLIPConfig.from_pretrained(tiny_folder, text_config={"layer_norm_eps": 1e-3})
    assert ours.text_config == expected.text_config
    assert ours.vision_config == expected.vision_config
    assert (ours.mine, ours.output_hidden_states, ours.prompt_layers) == ("kept", True, expected.prompt_layers)
    assert not {"is_decoder", "transformers_version", "chunk_size_feed_forward"} & ours.to_dict().keys()
    model = XCLIPModel.from_pretrained(tiny_folder, config=theirs)
    assert model.config == ours
    assert model.text_model.config is model.config.text_config
    assert isinstance(AutoModel.from_config(theirs), XCLIPModel)


@pytest.mark.parametrize("wrong", [transformers.CLIPTextConfig(), XCLIPConfig(), {}, None])
def test_a_config_of_another_class_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=f"^a XCLIPTextConfig is needed, not an object of type {type(wrong).__name__}"):
        XCLIPTextConfig.of(wrong)


def test_projection_dim_defaults_to_the_width_of_mit() -> None:
    assert XCLIPConfig(vision_config={"mit_hidden_size": 256}).projection_dim == 256
    assert XCLIPConfig().projection_dim == 512
    config = XCLIPConfig()
    config.projection_dim = 256
    with pytest.raises(ValueError, match="mit_hidden_size=512 and projection_dim=256 differ"):
        XCLIPModel(config)


def test_labels_have_numbers() -> None:
    config = XCLIPConfig(num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    config.id2label = {"0": "cat", "1": "dog"}
    assert (config.num_labels, config.label2id) == (2, {"cat": 0, "dog": 1})
    with pytest.raises(ValueError, match="id2label="):
        XCLIPConfig(id2label=["cat"])


def test_auto_classes_refuse_another_family(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="model_type='clip' is unknown; openxclip has xclip, "):
        AutoConfig.for_model("clip")
    with pytest.raises(TypeError, match=r"there is no model for a config of type CLIPConfig: give an XCLIPConfig."):
        AutoModel.from_config(transformers.CLIPConfig())
    with pytest.raises(TypeError, match=r"AutoModel.from_config has no argument 'dtyp'"):
        AutoModel.from_config(XCLIPConfig(), dtyp="float16")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="model_type is 'bert'; openxclip has xclip, "):
        AutoConfig.from_pretrained(tmp_path)


def test_dtype_of_a_model_from_a_config(tiny_folder: Path) -> None:
    config = XCLIPConfig.from_pretrained(tiny_folder)
    assert AutoModel.from_config(config, torch_dtype="bfloat16", attn_implementation="sdpa").dtype is torch.bfloat16
    assert AutoModel.from_config(config.text_config).dtype is torch.float32
