"""Hub folders: loading transformers' folders, saving for transformers, and errors."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peers import (
    TINY,
    assert_same,
    fields,
    make_ids,
    make_pixels,
    our_config,
    our_model,
    quiet_transformers,
    relative_delta,
    their_model,
    with_settings,
)
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

import openxclip
from openxclip import hub
from openxclip.errors import CheckpointError, OpenXCLIPError

SMALL = with_settings(TINY, text_hidden_size=48, vision_hidden_size=72)


@pytest.fixture(scope="module")
def theirs() -> transformers.XCLIPModel:
    return their_model(SMALL, seed=4)


@pytest.fixture(scope="module")
def their_folder(theirs: transformers.XCLIPModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs") / "full"
    with quiet_transformers():
        theirs.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(their_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(their_folder, tmp_path / "full"))


def inputs() -> dict[str, torch.Tensor]:
    ids, mask = make_ids(SMALL, 3, 9, pad=0)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": make_pixels(SMALL, 2)}


@torch.no_grad()
def assert_equal_outputs(ours: Any, theirs: Any) -> None:
    actual, expected = fields(ours(**inputs())), fields(theirs(**inputs()))
    assert_same(actual, expected)


def edit_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **values}))


# Loading transformers' folders


def test_a_folder_written_by_transformers_loads(their_folder: Path, theirs: Any) -> None:
    for name in (their_folder, str(their_folder), f"{their_folder}/"):
        model = openxclip.XCLIPModel.from_pretrained(name)
        assert not model.training
        assert model.dtype == torch.float32
        assert model.device.type == "cpu"
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert not any(module.training for module in model.modules())
        assert model.state_dict().keys() == theirs.state_dict().keys()
        assert_equal_outputs(model, theirs)


def test_sharded_weights_load(theirs: Any, tmp_path: Path) -> None:
    with quiet_transformers():
        theirs.save_pretrained(tmp_path, max_shard_size="300KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    assert not (tmp_path / "model.safetensors").exists()
    assert_equal_outputs(openxclip.XCLIPModel.from_pretrained(tmp_path), theirs)


@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_model_bin_of_older_releases(folder: Path, theirs: Any, zipped: bool) -> None:
    (folder / "model.safetensors").unlink()
    state = dict(theirs.state_dict())
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    config = json.loads((folder / "config.json").read_text())
    text, vision = config.pop("text_config"), config.pop("vision_config")
    config |= {
        "text_config": {},
        "text_config_dict": {**text, "return_dict": True, "torch_dtype": None},
        "vision_config": None,
        "vision_config_dict": {**vision, "id2label": {"0": "LABEL_0"}, "chunk_size_feed_forward": 0},
        "torch_dtype": "float32",
        "transformers_version": None,
        "return_dict": True,
        "_commit_hash": None,
    }
    (folder / "config.json").write_text(json.dumps(config))
    model = openxclip.XCLIPModel.from_pretrained(folder)
    assert model.config.text_config.hidden_size == 48
    assert model.config.vision_config.hidden_size == 72
    assert model.state_dict().keys() == theirs.state_dict().keys()
    assert_equal_outputs(model, theirs)


def test_position_ids_in_safetensors_are_ignored(folder: Path, theirs: Any) -> None:
    state = load_file(folder / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(state, folder / "model.safetensors")
    assert_equal_outputs(openxclip.XCLIPModel.from_pretrained(folder), theirs)


def test_safetensors_are_preferred_to_a_pickle(folder: Path, theirs: Any) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"never opened")
    assert_equal_outputs(openxclip.XCLIPModel.from_pretrained(folder), theirs)


def test_a_subfolder(their_folder: Path, theirs: Any) -> None:
    model = openxclip.XCLIPModel.from_pretrained(their_folder.parent, subfolder="full")
    assert_equal_outputs(model, theirs)
    with pytest.raises(CheckpointError, match="nowhere"):
        openxclip.XCLIPModel.from_pretrained(their_folder.parent, subfolder="nowhere")


def test_towers_load_from_the_folder_of_a_whole_model(their_folder: Path, theirs: Any) -> None:
    text = openxclip.XCLIPTextModel.from_pretrained(their_folder)
    vision = openxclip.XCLIPVisionModel.from_pretrained(their_folder)
    assert_equal_towers(text, vision, theirs)
    assert text.config == openxclip.XCLIPModel.from_pretrained(their_folder).config.text_config


@torch.no_grad()
def assert_equal_towers(text: Any, vision: Any, theirs: Any) -> None:
    given = inputs()
    pixels = given["pixel_values"].flatten(0, 1)
    actual = text(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    expected = theirs.text_model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    assert relative_delta(actual.last_hidden_state, expected.last_hidden_state) <= 1e-5
    assert relative_delta(actual.pooler_output, expected.pooler_output) <= 1e-5
    actual, expected = vision(pixels), theirs.vision_model(pixels)
    assert relative_delta(actual.last_hidden_state, expected.last_hidden_state) <= 1e-5
    assert relative_delta(actual.pooler_output, expected.pooler_output) <= 1e-5
    assert not text.training
    assert not vision.training


@pytest.mark.parametrize("release", [4, 5])
def test_towers_load_from_their_own_folders(theirs: Any, tmp_path: Path, release: int) -> None:
    """transformers 4 wrote a tower's keys with its name as a prefix, 5 writes them without."""
    for tower in ("text_model", "vision_model"):
        with quiet_transformers():
            getattr(theirs, tower).save_pretrained(tmp_path / tower)
        if release == 4:
            weights = tmp_path / tower / "model.safetensors"
            save_file({f"{tower}.{name}": value for name, value in load_file(weights).items()}, weights)
    text = openxclip.XCLIPTextModel.from_pretrained(tmp_path / "text_model")
    vision = openxclip.XCLIPVisionModel.from_pretrained(tmp_path / "vision_model")
    assert_equal_towers(text, vision, theirs)


def test_a_towers_folder_is_refused_by_other_classes(theirs: Any, tmp_path: Path) -> None:
    with quiet_transformers():
        theirs.text_model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="xclip_text_model"):
        openxclip.XCLIPVisionModel.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="xclip_text_model"):
        openxclip.XCLIPModel.from_pretrained(tmp_path)


def test_auto_model(their_folder: Path, theirs: Any, tmp_path: Path) -> None:
    model = openxclip.AutoModel.from_pretrained(their_folder)
    assert type(model) is openxclip.XCLIPModel
    assert_equal_outputs(model, theirs)


# Saving for transformers


def loads_cleanly(cls: Any, folder: Path) -> Any:
    with quiet_transformers():
        model, report = cls.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], (kind, report[kind])
    return model


@pytest.mark.parametrize("shards", [False, True])
def test_our_folder_loads_in_transformers(tmp_path: Path, shards: bool) -> None:
    ours = our_model(SMALL, seed=8)
    ours.save_pretrained(tmp_path / "saved", **({"max_shard_size": "300KB"} if shards else {}))
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    if shards:
        assert "model.safetensors.index.json" in names
        assert len(names) > 4
    else:
        assert names == ["config.json", "model.safetensors"]
    theirs = loads_cleanly(transformers.XCLIPModel, tmp_path / "saved")
    assert_equal_outputs(ours, theirs)
    assert_equal_outputs(openxclip.XCLIPModel.from_pretrained(tmp_path / "saved"), theirs)
    with quiet_transformers():
        assert type(transformers.AutoModel.from_pretrained(tmp_path / "saved")) is transformers.XCLIPModel
        known = transformers.AutoConfig.from_pretrained(tmp_path / "saved")
    assert type(known) is transformers.XCLIPConfig
    assert known.text_config.hidden_size == 48
    assert known.vision_config.mit_hidden_size == 128


def test_our_towers_load_in_transformers(tmp_path: Path) -> None:
    ours = our_model(SMALL, seed=8)
    for tower, cls in (("text_model", "XCLIPTextModel"), ("vision_model", "XCLIPVisionModel")):
        getattr(ours, tower).save_pretrained(tmp_path / tower)
        loads_cleanly(getattr(transformers, cls), tmp_path / tower)
        again = getattr(openxclip, cls).from_pretrained(tmp_path / tower)
        for name, value in getattr(ours, tower).state_dict().items():
            assert torch.equal(again.state_dict()[name], value), name


def test_a_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    ours = our_model(SMALL, seed=8)
    ours.save_pretrained(tmp_path)
    again = openxclip.XCLIPModel.from_pretrained(tmp_path)
    assert again.config.text_config == ours.config.text_config
    assert again.config.vision_config == ours.config.vision_config
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_saved_weights_have_the_permissions_of_the_config(tmp_path: Path) -> None:
    """safetensors makes files readable by the owner alone, but a folder may be shared."""
    our_model(SMALL).save_pretrained(tmp_path)
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes["model.safetensors"] == modes["config.json"], {k: oct(v) for k, v in modes.items()}


def test_half_precision_round_trip(tmp_path: Path) -> None:
    ours = our_model(SMALL, seed=8).half()
    ours.save_pretrained(tmp_path)
    assert {value.dtype for value in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    assert openxclip.XCLIPModel.from_pretrained(tmp_path).dtype == torch.float32
    auto = openxclip.XCLIPModel.from_pretrained(tmp_path, dtype="auto")
    assert auto.dtype == torch.float16
    for name, value in ours.state_dict().items():
        assert torch.equal(auto.state_dict()[name], value), name
    loads_cleanly(transformers.XCLIPModel, tmp_path)


def test_saving_over_the_folder_it_was_loaded_from(folder: Path) -> None:
    """The weights in use are mapped from the file that is replaced."""
    model = openxclip.XCLIPModel.from_pretrained(folder)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    model.save_pretrained(folder)
    for name, value in expected.items():
        assert torch.equal(model.state_dict()[name], value), name
    again = openxclip.XCLIPModel.from_pretrained(folder)
    for name, value in expected.items():
        assert torch.equal(again.state_dict()[name], value), name


def test_saving_deletes_older_weights(folder: Path) -> None:
    """Older weights, shards or one file, would be loaded instead of the new ones."""
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "tokenizer.json").write_text("{}")
    ours = our_model(SMALL, seed=8)
    ours.save_pretrained(folder, max_shard_size="300KB")
    assert not (folder / "model.safetensors").exists()
    assert not (folder / "pytorch_model.bin").exists()
    ours.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    again = openxclip.XCLIPModel.from_pretrained(folder)
    assert torch.equal(again.visual_projection.weight, ours.visual_projection.weight)


def test_training_loaded_weights_does_not_change_the_file(folder: Path) -> None:
    before = (folder / "model.safetensors").read_bytes()
    model = openxclip.XCLIPModel.from_pretrained(folder).train()
    given = inputs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**given, labels=torch.tensor([0, 1])).loss.backward()
    optimizer.step()
    assert (folder / "model.safetensors").read_bytes() == before
    fresh = openxclip.XCLIPModel.from_pretrained(folder)
    assert not torch.equal(fresh.visual_projection.weight, model.visual_projection.weight)


# Loading weights


class ForbidInitialization(TorchDispatchMode):
    """Fails on random initialisation of tensors that have memory, and counts the numbers that are written to them."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type != "meta":
            name = func.overloadpacket.__name__
            assert not any(word in name for word in ("normal", "uniform", "rand", "bernoulli")), name
            if name in ("_to_copy", "clone", "copy_", "zeros", "ones", "fill_", "empty"):
                self.copied += result.numel()
        return result


def test_weights_are_mapped_from_the_file_without_initialization(folder: Path) -> None:
    generator = torch.get_rng_state()
    with ForbidInitialization() as watched:
        model = openxclip.XCLIPModel.from_pretrained(folder)
    assert watched.copied == 0
    assert torch.equal(torch.get_rng_state(), generator)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [
        tuple(int(end, 16) for end in line[0].split("-"))
        for line in mapped
        if line[-1] == str(folder / "model.safetensors")
    ]
    for name, parameter in model.named_parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in ranges), name


def test_the_check_detects_random_initialization() -> None:
    with pytest.raises(AssertionError), ForbidInitialization():
        our_model(SMALL, seed=None)


@pytest.mark.parametrize("argument", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", [torch.bfloat16, "bfloat16", torch.float16, "torch.float16"])
def test_dtype(their_folder: Path, argument: str, value: Any) -> None:
    model = openxclip.XCLIPModel.from_pretrained(their_folder, **{argument: value})
    expected = value if isinstance(value, torch.dtype) else getattr(torch, value.removeprefix("torch."))
    assert {parameter.dtype for parameter in model.parameters()} == {expected}
    assert model.dtype == expected


def test_unknown_dtypes_are_refused(their_folder: Path) -> None:
    for value in ("int8", "floot32"):
        with pytest.raises(ValueError, match=value):
            openxclip.XCLIPModel.from_pretrained(their_folder, dtype=value)


def test_device(their_folder: Path) -> None:
    for options in ({"device": "cpu"}, {"device": torch.device("cpu")}, {"device_map": "cpu"}):
        assert openxclip.XCLIPModel.from_pretrained(their_folder, **options).device.type == "cpu"
    assert openxclip.XCLIPModel.from_pretrained(their_folder, device="meta").device.type == "meta"


def test_a_custom_config(their_folder: Path, theirs: Any) -> None:
    config = openxclip.XCLIPConfig.from_pretrained(their_folder)
    config.vision_config.drop_path_rate = 0.25
    model = openxclip.XCLIPModel.from_pretrained(their_folder, config=config)
    assert model.config.vision_config.drop_path_rate == 0.25
    assert model.vision_model.encoder.layers[-1].drop_path.rate == 0.25
    assert_equal_outputs(model, theirs)
    model = openxclip.XCLIPModel.from_pretrained(their_folder, prompt_attention_dropout=0.5)
    assert model.config.prompt_attention_dropout == 0.5
    assert model.prompts_generator.decoder[0].mlp[2].p == 0.5


def test_an_unknown_argument_is_refused(their_folder: Path) -> None:
    with pytest.raises(TypeError, match="local_file_only"):
        openxclip.XCLIPModel.from_pretrained(their_folder, local_file_only=True)


# Eight heads at E = 768

LARGE_LIKE = with_settings(
    SMALL,
    projection_dim=768,
    vision_mit_hidden_size=768,
    vision_mit_intermediate_size=96,
    vision_mit_num_attention_heads=8,
    prompt_num_attention_heads=8,
)


def test_the_converters_eight_heads_are_used_with_one_warning(tmp_path: Path) -> None:
    theirs = their_model(LARGE_LIKE, seed=4)
    with quiet_transformers():
        theirs.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"mit_num_attention_heads(.|\n)*prompt_num_attention_heads") as caught:
        model = openxclip.XCLIPModel.from_pretrained(tmp_path)
    assert len(caught) == 1
    assert "12" in str(caught[0].message)
    assert "config" in str(caught[0].message)
    assert Path(caught[0].filename) == Path(__file__)
    assert_equal_outputs(model, theirs)

    config = openxclip.XCLIPConfig.from_pretrained(tmp_path)
    config.vision_config.mit_num_attention_heads = 12
    config.prompt_num_attention_heads = 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twelve = openxclip.XCLIPModel.from_pretrained(tmp_path, config=config)
        openxclip.XCLIPTextModel.from_pretrained(tmp_path)
        openxclip.XCLIPVisionModel.from_pretrained(tmp_path)
    with torch.no_grad():
        scores, others = twelve(**inputs()).logits_per_video, model(**inputs()).logits_per_video
    assert not torch.allclose(scores, others, atol=1e-4)


@pytest.mark.parametrize(("width", "heads"), [(512, 8), (128, 4), (64, 8), (192, 6), (768, 12)])
def test_other_numbers_of_heads_do_not_warn(tmp_path: Path, width: int, heads: int) -> None:
    """Only the converter's large folders compute other scores than the weights were trained for."""
    config = with_settings(
        SMALL,
        projection_dim=width,
        vision_mit_hidden_size=width,
        vision_mit_num_attention_heads=heads,
        prompt_num_attention_heads=heads,
    )
    our_model(config).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        openxclip.XCLIPModel.from_pretrained(tmp_path)


# Errors


def message_of(folder: Path | str, cls: Any = None, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        (cls or openxclip.XCLIPModel).from_pretrained(folder, **options)
    assert isinstance(caught.value, OpenXCLIPError)
    return str(caught.value)


def test_every_key_that_does_not_fit_is_listed(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["mit.position_embedding"], state["text_model.final_layer_norm.weight"]
    state["mit.extra"] = torch.zeros(2)
    state["head.weight"] = torch.zeros(2)
    state["visual_projection.weight"] = torch.zeros(3, 5)
    state["logit_scale"] = torch.zeros(1)
    save_file(state, folder / "model.safetensors")
    message = message_of(folder)
    for words in (
        str(folder),
        "missing",
        "mit.position_embedding",
        "text_model.final_layer_norm.weight",
        "unexpected",
        "mit.extra",
        "head.weight",
        "visual_projection.weight",
        "(3, 5)",
        "(128, 72)",
        "logit_scale",
    ):
        assert words in message, words
    assert "prompts_generator.alpha" not in message


def test_a_tower_with_missing_keys(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["text_model.final_layer_norm.weight"]
    save_file(state, folder / "model.safetensors")
    assert "final_layer_norm.weight" in message_of(folder, openxclip.XCLIPTextModel)
    openxclip.XCLIPVisionModel.from_pretrained(folder)


def test_a_config_that_does_not_fit_the_weights_is_refused(folder: Path) -> None:
    config = openxclip.XCLIPConfig.from_pretrained(folder)
    config.vision_config.num_hidden_layers = 4
    config.vision_config.num_frames = 16
    message = message_of(folder, config=config)
    assert "vision_model.encoder.layers.3.message_fc.weight" in message
    assert "mit.position_embedding" in message
    assert "(1, 8, 128)" in message
    assert "(1, 16, 128)" in message


class MaliciousPickle:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle", "beside tensors"])
def test_code_in_a_pickle_is_refused_and_not_run(folder: Path, tmp_path: Path, kind: str, theirs: Any) -> None:
    (folder / "model.safetensors").unlink()
    marker, target = tmp_path / "ran", folder / "pytorch_model.bin"
    malicious = MaliciousPickle(marker)
    if kind == "bare pickle":
        target.write_bytes(pickle.dumps({"logit_scale": malicious}, protocol=2))  # the protocol that torch writes
    elif kind == "beside tensors":
        torch.save({**theirs.state_dict(), "extra": malicious}, target)
    else:
        torch.save({"logit_scale": malicious}, target, _use_new_zipfile_serialization=kind == "zip")
    message = message_of(folder)
    assert "pytorch_model.bin" in message
    assert not marker.exists()


def test_the_malicious_pickle_works(tmp_path: Path) -> None:
    """Make sure that the test above can fail."""
    torch.save(MaliciousPickle(tmp_path / "ran"), tmp_path / "x")
    torch.load(tmp_path / "x", weights_only=False)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": {"a": torch.zeros(1)}}, {"a": 1}, torch.zeros(3)])
def test_a_pickle_without_weights_is_refused(folder: Path, content: Any) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    assert "pytorch_model.bin" in message_of(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "garbled header", "page of an error"])
def test_damaged_weights_are_refused(folder: Path, theirs: Any, name: str, damage: str) -> None:
    target = folder / name
    if name != "model.safetensors":
        (folder / "model.safetensors").unlink()
        torch.save(theirs.state_dict(), target)
    content = target.read_bytes()
    target.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "text": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 786\n",
            "garbled header": b"\xff" * 64 + content[64:],
            "page of an error": b"<html><body>404</body></html>",
        }[damage]
    )
    message = message_of(folder)
    assert str(target) in message


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "notes.txt").write_text("nothing here")
    message = message_of(folder)
    for words in (str(folder), "model.safetensors", "pytorch_model.bin", "notes.txt"):
        assert words in message


def test_a_missing_or_invalid_shard_is_refused(theirs: Any, tmp_path: Path) -> None:
    with quiet_transformers():
        theirs.save_pretrained(tmp_path, max_shard_size="300KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.rename(tmp_path / "elsewhere")
    assert shard.name in message_of(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    (tmp_path / "elsewhere").rename(shard)
    openxclip.XCLIPModel.from_pretrained(tmp_path)
    kept = json.loads(index.read_text())
    outside = {**kept["weight_map"], "logit_scale": "../outside.safetensors"}
    save_file({"logit_scale": torch.tensor(1.0)}, tmp_path.parent / "outside.safetensors")
    for content in ("{", "[]", '{"weight_map": [1]}', '{"weight_map": {"a": 3}}', json.dumps({"weight_map": outside})):
        index.write_text(content)
        assert "model.safetensors.index.json" in message_of(tmp_path)


@pytest.mark.parametrize(
    "content", [None, "", "{", "[1]", '{"model_type": "clip"}', "{}"], ids=lambda content: str(content)
)
def test_invalid_config_files_are_refused(folder: Path, content: str | None) -> None:
    if content is None:
        (folder / "config.json").unlink()
    else:
        (folder / "config.json").write_text(content)
    for cls in (openxclip.XCLIPModel, openxclip.XCLIPTextModel, openxclip.XCLIPConfig, openxclip.AutoModel):
        message = message_of(folder, cls)
        assert str(folder) in message
        assert "config.json" in message or "model_type" in message


def test_a_config_with_an_invalid_value_is_refused(folder: Path) -> None:
    """An invalid value in the file is an error about the file."""
    edit_config(folder, prompt_num_attention_heads=5)
    with pytest.raises((CheckpointError, ValueError), match="prompt_num_attention_heads=5"):
        openxclip.XCLIPModel.from_pretrained(folder)


@pytest.mark.parametrize("key", ["num_hidden_layers", "intermediate_size", "hidden_act"])
def test_a_config_of_absurd_size_is_refused(folder: Path, key: str) -> None:
    """The config is refused before anything of that size is built."""
    config = json.loads((folder / "config.json").read_text())
    config["text_config"][key] = 10**18
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((CheckpointError, ValueError), match=str(10**18)):
        openxclip.XCLIPModel.from_pretrained(folder)
    (folder / "config.json").write_text("[" * 100_000)
    assert "JSON" in message_of(folder)


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "nowhere"), tmp_path / "nowhere", "./no/such/folder", "no such model!"):
        message = message_of(name)
        assert Path(name).name in message
    (tmp_path / "file").write_text("x")
    assert "file" in message_of(tmp_path / "file")
    assert "torch.save" in message_of(tmp_path / "file")


def test_a_hub_id_that_is_not_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = message_of("someone/some-xclip", local_files_only=True, cache_dir=tmp_path)
    assert "someone/some-xclip" in message
    assert "cache" in message
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = message_of("someone/some-xclip", cache_dir=tmp_path)
    assert "someone/some-xclip" in message
    assert "mini" in message


@pytest.fixture
def cache(their_folder: Path, tmp_path: Path) -> Path:
    """A cache in the hub's layout: content by hash, snapshots by commit, branches by name."""
    commit, cache = "0123456789abcdef0123456789abcdef01234567", tmp_path / "hub"
    home = cache / "models--someone--some-xclip"
    snapshot = home / "snapshots" / commit
    (home / "blobs").mkdir(parents=True)
    (home / "refs").mkdir()
    snapshot.mkdir(parents=True)
    (home / "refs" / "main").write_text(commit)
    (home / "refs" / "v2").write_text(commit)
    for number, path in enumerate(sorted(their_folder.iterdir())):
        blob = home / "blobs" / f"{number:040x}"
        shutil.copyfile(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return cache


def test_a_model_in_the_cache(cache: Path, theirs: Any) -> None:
    options = {"cache_dir": cache, "local_files_only": True}
    for revision in (None, "main", "v2", "0123456789abcdef0123456789abcdef01234567"):
        model = openxclip.XCLIPModel.from_pretrained("someone/some-xclip", revision=revision, **options)
        assert_equal_outputs(model, theirs)
    assert openxclip.XCLIPConfig.from_pretrained("someone/some-xclip", **options).projection_dim == 128
    assert openxclip.XCLIPTextModel.from_pretrained("someone/some-xclip", **options).dtype == torch.float32
    folder = hub.resolve_folder("someone/some-xclip", **options)
    assert (folder / "config.json").is_file()
    message = message_of("someone/some-xclip", revision="v3", **options)
    assert "someone/some-xclip" in message
    assert "v3" in message


def test_a_cache_without_weights(cache: Path) -> None:
    for path in cache.rglob("model.safetensors"):
        path.unlink()
    message = message_of("someone/some-xclip", cache_dir=cache, local_files_only=True)
    assert "model.safetensors" in message


def test_mini_is_the_model_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(openxclip.__file__).parent / "models" / "mini"
    assert hub.resolve_folder("mini") == home
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert hub.resolve_folder("mini") == home
    assert hub.resolve_folder("./mini").resolve() == tmp_path / "mini"


# Configs


def test_unknown_keys_are_kept(folder: Path, tmp_path: Path) -> None:
    edit_config(folder, recipe={"epochs": 30, "by": ["a", "b"]}, _name_or_path="x", id2label={"0": "jump"})
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["colour"] = "sRGB"
    config["text_config"]["languages"] = ["en"]
    (folder / "config.json").write_text(json.dumps(config))
    model = openxclip.XCLIPModel.from_pretrained(folder)
    assert model.config.recipe == {"epochs": 30, "by": ["a", "b"]}
    assert model.config.vision_config.colour == "sRGB"
    model.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    for key in ("recipe", "id2label", "model_type", "projection_dim", "transformers_version"):
        assert saved[key] == config[key], key
    assert saved["vision_config"]["colour"] == "sRGB"
    assert saved["text_config"]["languages"] == ["en"]
    assert saved["architectures"] == ["XCLIPModel"]
    model.text_model.save_pretrained(tmp_path / "text")
    saved = json.loads((tmp_path / "text" / "config.json").read_text())
    assert saved["languages"] == ["en"]
    assert saved["architectures"] == ["XCLIPTextModel"]
    assert saved["model_type"] == "xclip_text_model"
    again = openxclip.XCLIPConfig.from_pretrained(tmp_path / "again")
    assert again.recipe == model.config.recipe


def test_config_defaults_equal_transformers() -> None:
    for name in ("XCLIPConfig", "XCLIPTextConfig", "XCLIPVisionConfig"):
        theirs, ours = getattr(transformers, name)().to_dict(), getattr(openxclip, name)().to_dict()
        for key, value in ours.items():
            if isinstance(value, dict):
                continue
            assert theirs[key] == value, (name, key)
        for key in getattr(transformers, name).__annotations__:
            assert key in ours or key in ("model_type", "base_config_key", "sub_configs_defaults"), (name, key)


def test_configs_from_tower_configs() -> None:
    text = openxclip.XCLIPTextConfig(hidden_size=48, num_attention_heads=4)
    vision = openxclip.XCLIPVisionConfig(hidden_size=72, mit_hidden_size=64)
    config = openxclip.XCLIPConfig.from_text_vision_configs(
        text, vision, projection_dim=64, prompt_num_attention_heads=4
    )
    assert config.text_config == text
    assert config.vision_config == vision
    assert config.projection_dim == 64
    again = openxclip.XCLIPConfig.from_dict(json.loads(config.to_json_string()))
    assert again == config
    assert again.to_dict() == config.to_dict()
    again.prompt_layers = 3
    assert again != config
    assert openxclip.XCLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=64) == (
        openxclip.XCLIPConfig(text_config=text.to_dict(), vision_config=vision, projection_dim=64)
    )


def test_transformers_reads_our_configs(tmp_path: Path) -> None:
    our_config(SMALL).save_pretrained(tmp_path)
    with quiet_transformers():
        theirs = transformers.XCLIPConfig.from_pretrained(tmp_path)
    expected = transformers.XCLIPConfig(**SMALL)
    assert theirs.text_config.to_dict() == expected.text_config.to_dict()
    assert theirs.vision_config.to_dict() == expected.vision_config.to_dict()
    assert theirs.projection_dim == 128
    assert openxclip.XCLIPConfig.from_pretrained(tmp_path) == our_config(SMALL)
    assert openxclip.XCLIPTextConfig.from_pretrained(tmp_path) == our_config(SMALL).text_config
    assert openxclip.XCLIPVisionConfig.from_pretrained(tmp_path, num_frames=4).num_frames == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"text_num_attention_heads": 5}, ["48", "5"]),
        ({"vision_num_attention_heads": 7}, ["72", "7"]),
        ({"vision_mit_num_attention_heads": 3}, ["128", "3"]),
        ({"prompt_num_attention_heads": 3}, ["128", "3"]),
        ({"vision_mit_hidden_size": 32}, ["32", "128"]),
        ({"vision_patch_size": 64}, ["32", "64"]),
        ({"vision_num_frames": 0}, ["num_frames=0"]),
    ],
)
def test_invalid_configs_are_refused(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        our_config(with_settings(SMALL, **settings))
    assert all(word in str(caught.value) for word in words), str(caught.value)


# Saving


def test_saving_keeps_unrelated_files(folder: Path) -> None:
    others = ["model_best.safetensors", "model-ema.safetensors", "pytorch_model_backup.bin"]
    for name in others:
        (folder / name).write_bytes(b"mine")
    stale = folder / "model-00001-of-00002.safetensors"
    stale.write_bytes(b"old")
    openxclip.XCLIPModel.from_pretrained(folder).save_pretrained(folder)
    assert all((folder / name).read_bytes() == b"mine" for name in others)
    assert not stale.exists()


def test_save_pretrained_with_a_state_dict(folder: Path, tmp_path: Path) -> None:
    model = openxclip.XCLIPModel.from_pretrained(folder)
    mean = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "mean", state_dict=mean)
    saved = openxclip.XCLIPModel.from_pretrained(tmp_path / "mean").state_dict()
    assert all(torch.equal(saved[name], mean[name]) for name in mean)
    with pytest.raises(ValueError, match="state_dict is empty"):
        model.save_pretrained(tmp_path / "mean", state_dict={})
    assert (tmp_path / "mean" / "model.safetensors").exists()
    with pytest.raises(TypeError, match="typo"):
        model.save_pretrained(tmp_path / "typo", typo=3)


def test_output_flags_when_loading(folder: Path) -> None:
    model = openxclip.XCLIPModel.from_pretrained(folder, output_hidden_states=True, return_dict=False)
    assert isinstance(model(input_ids=torch.tensor([[5, 9]])), tuple)
