"""Arguments of transformers' from_pretrained and save_pretrained: supported, without effect, or refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from openxclip import XCLIPConfig, XCLIPModel
from openxclip.errors import CheckpointError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quantization_config", {"load_in_8bit": True}),
        ("load_in_8bit", True),
        ("load_in_4bit", True),
        ("from_tf", True),
        ("from_flax", True),
        ("gguf_file", "x.gguf"),
        ("tp_plan", "auto"),
        ("tp_size", 2),
        ("proxies", {"https": "x"}),
        ("mirror", "tuna"),
        ("adapter_kwargs", {"name": "x"}),
    ],
)
def test_unsupported_arguments_are_refused_unless_empty(name: str, value: Any, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        XCLIPModel.from_pretrained(tiny_folder, **{name: value})
    assert "\n" not in str(caught.value)
    for nothing in (None, False):
        XCLIPModel.from_pretrained(tiny_folder, **{name: nothing})


@pytest.mark.parametrize("name", ["eager", "sdpa", "flash_attention_2", {"text_config": "eager"}, None])
def test_known_attention_names_are_accepted(name: Any, tiny_folder: Path) -> None:
    XCLIPModel.from_pretrained(tiny_folder, attn_implementation=name).set_attn_implementation(name)


@pytest.mark.parametrize("name", ["bogus", "", {"text_config": "bogus"}, 3])
def test_unknown_attention_names_are_refused(name: Any, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="attn_implementation"):
        XCLIPModel.from_pretrained(tiny_folder, attn_implementation=name)
    with pytest.raises(ValueError, match="attn_implementation"):
        XCLIPModel.from_pretrained(tiny_folder).set_attn_implementation(name)


@pytest.mark.parametrize("plan", ["cpu", "auto", "balanced", "sequential", {"": "cpu"}, {"mit": "cpu", "": "cpu"}])
def test_device_maps_of_one_device(plan: Any, tiny_folder: Path) -> None:
    expected = "cuda" if isinstance(plan, str) and plan != "cpu" and torch.cuda.is_available() else "cpu"
    assert XCLIPModel.from_pretrained(tiny_folder, device_map=plan).device.type == expected


@pytest.mark.parametrize("plan", [{"mit": "cpu", "": "meta"}, {"": "disk"}, "disk", {}, "cuda:99", 99])
def test_invalid_device_maps_are_refused(plan: Any, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="device"):
        XCLIPModel.from_pretrained(tiny_folder, device_map=plan)


@pytest.mark.parametrize("limit", [10**9, "1GB", "1GiB", "1.5 gb", "900000KB"])
def test_a_model_within_max_memory_loads(limit: Any, tiny_folder: Path) -> None:
    XCLIPModel.from_pretrained(tiny_folder, max_memory={"cpu": limit, 0: 1})


@pytest.mark.parametrize("limit", [1000, "1KB", "2MiB"])
def test_a_model_above_max_memory_is_refused(limit: Any, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="max_memory allows"):
        XCLIPModel.from_pretrained(tiny_folder, max_memory={"cpu": limit})


def test_max_memory_is_compared_with_the_target_dtype(tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="max_memory"):
        XCLIPModel.from_pretrained(tiny_folder, max_memory={"cpu": "2MB"})
    XCLIPModel.from_pretrained(tiny_folder, max_memory={"cpu": "2MB"}, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="many"):
        XCLIPModel.from_pretrained(tiny_folder, max_memory={"cpu": "many"})


def test_weights_from_a_state_dict_are_copied(tiny_folder: Path) -> None:
    config, state = XCLIPConfig.from_pretrained(tiny_folder), load_file(tiny_folder / "model.safetensors")
    expected = state["logit_scale"].clone()
    for name in (None, tiny_folder):
        model = XCLIPModel.from_pretrained(name, config=config, state_dict=state)
        state["logit_scale"].zero_()
        assert torch.equal(model.logit_scale, expected)
        state["logit_scale"].copy_(expected)
    for missing in ({"config": config}, {"state_dict": state}, {}):
        with pytest.raises(ValueError, match="needs both"):
            XCLIPModel.from_pretrained(None, **missing)


def test_key_mapping_renames_weights(tiny_folder: Path, tmp_path: Path) -> None:
    state = {name.replace("mit.", "temporal."): t for name, t in load_file(tiny_folder / "model.safetensors").items()}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match="missing"):
        XCLIPModel.from_pretrained(tmp_path)
    XCLIPModel.from_pretrained(tmp_path, key_mapping={r"^temporal\.": "mit."})


def test_use_safetensors_refuses_pickles(tiny_folder: Path, tmp_path: Path) -> None:
    torch.save(load_file(tiny_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    XCLIPModel.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="use_safetensors"):
        XCLIPModel.from_pretrained(tmp_path, use_safetensors=True)


def test_variants_are_kept_side_by_side(tiny_folder: Path, tmp_path: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.logit_scale.fill_(1.0)
    model.save_pretrained(tmp_path, variant="ema")
    model.save_pretrained(tmp_path / "shards", variant="ema", max_shard_size="1MB")
    assert names_in(tmp_path) == ["config.json", "model.ema.safetensors", "model.safetensors", "shards"]
    assert "model.safetensors.index.ema.json" in names_in(tmp_path / "shards")
    for folder in (tmp_path, tmp_path / "shards"):
        assert XCLIPModel.from_pretrained(folder, variant="ema").logit_scale == 1.0
    assert XCLIPModel.from_pretrained(tmp_path).logit_scale != 1.0
    with pytest.raises(CheckpointError, match=r"no model\.fp16\.safetensors"):
        XCLIPModel.from_pretrained(tmp_path, variant="fp16")


def test_only_the_main_process_saves(tiny_folder: Path, tmp_path: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    model.save_pretrained(tmp_path, is_main_process=False, save_function=torch.save)
    assert not names_in(tmp_path)
    model.save_pretrained(tmp_path, True, model.state_dict(), torch.save)
    assert names_in(tmp_path) == ["config.json", "model.safetensors"]
    with pytest.raises(ValueError, match="safe_serialization"):
        model.save_pretrained(tmp_path, safe_serialization=False)


def test_use_auth_token_is_the_token(tiny_folder: Path) -> None:
    XCLIPModel.from_pretrained(tiny_folder, use_auth_token=False)
    with pytest.raises(ValueError, match="use_auth_token"):
        XCLIPModel.from_pretrained(tiny_folder, use_auth_token="a", token="b")


# Members that training libraries use


def test_resized_token_embeddings_start_at_the_mean_with_a_warning(tiny_folder: Path, tmp_path: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    before = model.get_input_embeddings().weight.detach().clone()
    with pytest.warns(UserWarning, match="ends at that token"):
        table = model.resize_token_embeddings(49410)
    assert model.get_input_embeddings() is table
    assert torch.equal(table.weight[:49408], before)
    assert torch.allclose(table.weight[49408:], before.mean(dim=0))
    assert model.config.text_config.vocab_size == 49410
    assert model.resize_token_embeddings() is table
    model.save_pretrained(tmp_path)
    assert XCLIPModel.from_pretrained(tmp_path).get_input_embeddings().num_embeddings == 49410
    assert model.resize_token_embeddings(100).num_embeddings == 100
    with pytest.raises(ValueError, match="no tokens"):
        model.vision_model.resize_token_embeddings(10)


def test_enable_input_require_grads_can_be_undone_and_pickled(tiny_folder: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder).requires_grad_(False)
    ids = torch.tensor([[49406, 320, 49407]])
    model.enable_input_require_grads()
    model.enable_input_require_grads()
    assert model.text_model(ids).pooler_output.requires_grad
    model.disable_input_require_grads()
    assert not model.text_model(ids).pooler_output.requires_grad
    assert isinstance(pickle.loads(pickle.dumps(model)), XCLIPModel)


def test_options_of_gradient_checkpointing(tiny_folder: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs=None, every_n_layers=1, offload=False)
    assert model.is_activation_checkpointing
    assert model.is_gradient_checkpointing
    model.activation_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(ValueError, match="every_n_layers=2"):
        model.gradient_checkpointing_enable(every_n_layers=2)
    with pytest.raises(TypeError, match="bogus"):
        model.gradient_checkpointing_enable(bogus=1)


def test_num_parameters_and_memory_footprint(tiny_folder: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    tables = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    assert model.num_parameters() - model.num_parameters(exclude_embeddings=True) == tables
    model.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == 0
    assert model.get_memory_footprint() == 4 * model.num_parameters()
    assert model.half().get_memory_footprint() == 2 * model.num_parameters()


def test_no_split_modules_exist(tiny_folder: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    assert set(model._no_split_modules) <= {type(module).__name__ for module in model.modules()}


@pytest.mark.parametrize(
    ("name", "words"), [("training_args.bin", r"openxclip\.Trainer"), ("adapter_config.json", "PeftModel")]
)
def test_a_missing_config_with_a_known_cause(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(CheckpointError, match=rf"no config\.json in this folder.*{words}"):
        XCLIPModel.from_pretrained(tmp_path)
