"""Numbers that are not finite: no verb prints them, and a model that returns them is refused."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from openxclip import CheckpointError, VideoPipeline, XCLIPModel
from openxclip.cli.rows import csv_line
from openxclip.cli.terminal import json_line

Run = Callable[..., Any]
LOOKED_AT = "mit.encoder.layers.0.layer_norm1.weight"  # when a model is loaded
OF_VIDEOS = "vision_model.encoder.layers.0.mlp.fc1.weight"  # what is noticed at the first video
OF_TEXTS = "text_model.encoder.layers.0.mlp.fc1.weight"
SAID = "not finite"


def spoiled(tiny_folder: Path, folder: Path, name: str, value: float = math.nan) -> Path:
    """The tiny model with one number of one weight replaced."""
    shutil.copytree(tiny_folder, folder)
    tensors = {key: tensor.clone() for key, tensor in load_file(folder / "model.safetensors").items()}
    tensors[name].view(-1)[3] = value
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def strict(text: str) -> Any:
    """The value of a line of JSON, without the NaN and Infinity that Python's reader takes."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


CASES = [(verb, name) for verb in ("classify", "embed", "index", "eval") for name in (LOOKED_AT, OF_VIDEOS)]
CASES += [("classify", OF_TEXTS), ("eval", OF_TEXTS)]  # the others read no texts


@pytest.mark.filterwarnings("ignore:the prepared")  # its self-test notices them, too
@pytest.mark.parametrize(("verb", "name"), CASES)
def test_a_model_that_is_not_finite_is_refused(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path, verb: str, name: str
) -> None:
    model, video, out = spoiled(tiny_folder, tmp_path / "model", name), clip_folder / "red2.mp4", tmp_path / "out"
    for number, label in enumerate(("red", "blue")):
        (tmp_path / "data" / label).mkdir(parents=True)
        shutil.copy(video, tmp_path / "data" / label / f"{number}.mp4")
    arguments: dict[str, tuple[object, ...]] = {
        "classify": (video, "--labels", "red,blue", "--json"),
        "embed": (video, "--out", out.with_suffix(".npz")),
        "index": (video, "--to", out),
        "eval": ("my-videos", f"data={tmp_path / 'data'}", "hold_out=0", "--out", out),
    }
    done = run(verb, *arguments[verb], "--model", model)
    assert done.returncode == 1
    assert SAID in done.stderr
    assert "Traceback" not in done.stderr
    assert "NaN" not in done.stdout
    assert not out.with_suffix(".npz").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_loading_refuses_weights_that_are_not_finite(tiny_folder: Path, tmp_path: Path, value: float) -> None:
    folder = spoiled(tiny_folder, tmp_path / "model", LOOKED_AT, value)
    with pytest.raises(CheckpointError, match=r"layer_norm1\.weight has numbers that are not finite"):
        XCLIPModel.from_pretrained(folder)


@pytest.mark.filterwarnings("ignore:the prepared")
def test_the_first_output_that_is_not_finite_is_an_error(tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    """All features and scores that a pipeline gives are looked at."""
    with pytest.raises(CheckpointError, match=SAID):
        list(VideoPipeline.from_pretrained(spoiled(tiny_folder, tmp_path / "a", OF_VIDEOS)).encode_videos(
            [str(clip_folder / "red2.mp4")]))  # fmt: skip
    pipeline = VideoPipeline.from_pretrained(spoiled(tiny_folder, tmp_path / "b", OF_TEXTS))
    with pytest.raises(CheckpointError, match=SAID):
        pipeline.encode_texts(["a"])
    found = next(iter(pipeline.encode_videos([str(clip_folder / "red2.mp4")])))
    assert found.features is not None
    text = found.features.pooled.clone() * math.nan
    with pytest.raises(CheckpointError, match=SAID):
        pipeline.score(text, found.features)
    pipeline.close()


def test_json_has_null_for_unknown_numbers() -> None:
    value = {"duration": math.nan, "parts": [math.inf, (1.5, -math.inf)], "name": "a"}
    assert strict(json_line(value)) == {"duration": None, "parts": [None, [1.5, None]], "name": "a"}
    assert csv_line([math.nan, 1.5, [math.inf]]) == ",1.5,[null]"
