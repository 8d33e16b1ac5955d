"""Descriptions of a user's checkpoints and of the released ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from made_models import authors_model, clip_model, openai_state, script_archive, sizes
from yacs.config import CfgNode

import openxclip
from openxclip.checkpoints import RELEASED, describe_checkpoint
from openxclip.errors import CheckpointError
from openxclip.model.fitting import SkipInitialization


def test_mini() -> None:
    found = describe_checkpoint("mini")
    assert (found.kind, found.format, found.architecture) == ("xclip", "hub", "192/8")
    assert (found.frames, found.resolution, found.joint_width, found.dtype) == (8, 64, 192, "float16")
    assert found.vision.layers == 4
    assert found.text.heads == 3
    assert found.parameters == openxclip.XCLIPModel.from_pretrained("mini").num_parameters()
    assert found.released == "mini"
    assert "playground" in str(found.trained_on)
    assert found.size_bytes > 29e6
    assert found.problems == []


def test_an_authors_file(tmp_path: Path) -> None:
    value = {"model": authors_model().state_dict(), "epoch": 3, "config": CfgNode({"DATA": {"DATASET": "hmdb51"}})}
    torch.save(value, tmp_path / "x.pth")
    found = describe_checkpoint(tmp_path / "x.pth")
    assert (found.kind, found.format, found.frames, found.resolution) == ("xclip", "authors", 4, 32)
    assert found.trained_on == "hmdb51"
    assert found.info["epoch"] == 3
    assert found.problems == []
    shutil.copy(tmp_path / "x.pth", tmp_path / "k400_32_8.pth")
    assert describe_checkpoint(tmp_path / "k400_32_8.pth").released == "microsoft/xclip-base-patch32"
    del value["model"]["mit.resblocks.0.ln_1.bias"]
    torch.save(value, tmp_path / "x.pth")
    assert describe_checkpoint(tmp_path / "x.pth").problems == [
        "1 tensors are missing: mit.encoder.layers.0.layer_norm1.bias."
    ]


def test_a_clip(tmp_path: Path) -> None:
    clip = clip_model()
    found = describe_checkpoint(script_archive({**openai_state(clip), **sizes(clip)}, tmp_path / "x.pt"))
    assert (found.kind, found.format, found.frames, found.trained_on) == ("clip", "openai", None, None)
    assert found.vision.heads == 2
    assert found.activation == "quick_gelu"
    assert found.problems == []


def test_a_config_that_contradicts_the_weights_is_reported(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "x"))
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_frames"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    assert describe_checkpoint(folder).problems == [
        "config.json says num_frames=16 in its vision_config, but the weights have 4."
    ]
    with pytest.raises(CheckpointError):
        describe_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("tower", "field", "value", "message"),
    [
        ("vision_config", "num_hidden_layers", 10**9, "the weights have"),
        ("vision_config", "num_hidden_layers", "12", "num_hidden_layers='12': must be a whole number"),
        ("vision_config", "patch_size", 0, "patch_size=0"),
        ("vision_config", "num_attention_heads", 10**30, "a number of over 18 digits"),
        ("vision_config", "layer_norm_eps", "x", "layer_norm_eps='x': must be a number"),
        ("vision_config", "num_frames", -1, "num_frames=-1"),
        ("vision_config", "hidden_act", [1], "hidden_act=[1]: must be a string"),
        ("text_config", None, [1], "expected a XCLIPTextConfig, a dict"),
    ],
)
def test_invalid_configs_are_reported(
    tower: str, field: str | None, value: object, message: str, tiny_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "x"))
    config = json.loads((folder / "config.json").read_text())
    if field is None:
        config[tower] = value
    else:
        config[tower][field] = value
    (folder / "config.json").write_text(json.dumps(config))
    assert any(message in problem for problem in describe_checkpoint(folder).problems)
    with pytest.raises(CheckpointError):
        openxclip.XCLIPModel.from_pretrained(folder)
    with pytest.raises(CheckpointError):
        openxclip.convert(folder, tmp_path / "y")
    assert not (tmp_path / "y").exists()


def test_long_values_of_a_file_are_shortened(tmp_path: Path) -> None:
    long = "x" * 100_000
    extra = {"epoch": 10**5000, "max_accuracy": float("nan"), "name": long}
    settings = {"a": long, "b": [long] * 1000, "c": 1 << 70, "d": {str(i): [long] * 100 for i in range(1000)}, "e": 1}
    torch.save({"model": authors_model().state_dict(), **extra, "args": settings}, tmp_path / "x.pth")
    info = describe_checkpoint(tmp_path / "x.pth").info
    assert set(info) == {"name", "settings"}
    assert len(json.dumps(info, allow_nan=False)) < 20_000_000
    assert "c" not in info["settings"]


def test_no_torch_is_imported(tmp_path: Path) -> None:
    torch.save({"model": authors_model().state_dict()}, tmp_path / "x.pth")
    code = (
        "import sys; from openxclip.checkpoints import describe_checkpoint\n"
        f"print(describe_checkpoint('mini').frames, describe_checkpoint({str(tmp_path / 'x.pth')!r}).frames, "
        "'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["8", "4", "False"]


@pytest.mark.parametrize("released", RELEASED, ids=lambda one: one.name)
def test_the_sizes_of_released_models_are_right(released: openxclip.checkpoints.Released) -> None:
    if released.name == "mini":
        assert describe_checkpoint("mini").parameters == released.parameters
        return
    vision = {"image_size": released.resolution, "num_frames": released.frames}
    vision["patch_size"] = int(released.architecture.split("/")[1])
    text, joint = {}, 512
    if released.architecture.startswith("L"):
        joint = 768
        text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
        vision |= {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        vision |= {"mit_hidden_size": 768, "mit_intermediate_size": 3072, "mit_num_attention_heads": 12}
    config = openxclip.XCLIPConfig(
        text_config=text, vision_config=vision, projection_dim=joint, prompt_num_attention_heads=joint // 64
    )
    with torch.device("meta"), SkipInitialization():
        model = openxclip.XCLIPModel(config)
    assert model.num_parameters() == released.parameters
    assert released.download_bytes == 4 * released.parameters


def test_released_names_are_unique() -> None:
    names = [one.name for one in RELEASED]
    assert len(set(names)) == len(names) == 19
    assert len({one.authors_file for one in RELEASED}) == 19
    assert all(one.name == "mini" or one.name.startswith("microsoft/xclip-") for one in RELEASED)
    for one in RELEASED:
        frames = 32 if "shot" in one.name else 16 if one.name.endswith("16-frames") else 8
        assert one.frames == frames
        assert ("patch32" in one.name) == (one.architecture == "B/32")
