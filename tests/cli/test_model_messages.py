"""Every verb reports a model that can't be loaded in the same words."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import openxclip
from openxclip.checkpoints.folder import atomic_model_folder
from openxclip.errors import CheckpointError

Run = Callable[..., Any]

ABSENT, MISSHAPEN, DAMAGED, BIG_ENDIAN = "absent", "misshapen", "damaged.pth", "big.pth"


@pytest.fixture(scope="module")
def models(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, each of which fails to load in its own way."""
    folder = tmp_path_factory.mktemp("bad")
    shutil.copytree(tiny_folder, folder / MISSHAPEN)
    state = load_file(tiny_folder / "model.safetensors")
    state["logit_scale"] = torch.zeros(2)
    save_file(state, folder / MISSHAPEN / "model.safetensors")
    torch.save({"model": {"logit_scale": torch.zeros(())}}, folder / DAMAGED)
    content = bytearray((folder / DAMAGED).read_bytes())
    with zipfile.ZipFile(folder / DAMAGED) as archive:
        at = archive.getinfo("damaged/data.pkl").header_offset + 200
    content[at] ^= 255
    (folder / DAMAGED).write_bytes(content)
    with zipfile.ZipFile(folder / BIG_ENDIAN, "w") as archive:
        archive.writestr("big/byteorder", "big")
        archive.writestr("big/data.pkl", b"")
    return folder


@pytest.fixture(scope="module")
def data(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of two videos each."""
    folder = tmp_path_factory.mktemp("data")
    for name, clip in (("reds/a", "red2"), ("reds/b", "red10"), ("blues/a", "more/blue"), ("blues/b", "more/blue")):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip_folder / f"{clip}.mp4", folder / f"{name}.mp4")
    return folder


def message_of(models: Path, name: str) -> str:
    """The whole message, as it was before errors of models were errors of the system too."""
    path = models / name
    return {
        ABSENT: f"{path}: there is no such folder, and it is neither a shipped model (mini) nor a hub id such as "
        "microsoft/xclip-base-patch32.",
        MISSHAPEN: f"{path}/model.safetensors: the weights don't fit XCLIPModel.\n  misshapen (1):\n    logit_scale "
        "(2,), the config says ()",
        DAMAGED: f"{path}: damaged: the checksum of data.pkl is wrong.",
        BIG_ENDIAN: f"{path}: written on a big-endian machine, which isn't supported.",
    }[name]


def command(verb: str, model: Path, clip: Path, data: Path, out: Path) -> tuple[object, ...]:
    """The arguments of a verb that loads this model."""
    videos = (f"data={data}", "hold_out=0.5")
    return {
        "classify": (clip, "--model", model, "--labels", "a,b"),
        "embed": (clip, "--model", model, "--out", out / "f.npz"),
        "index": (clip, "--model", model, "--to", out / "index"),
        "train": ("my-videos", *videos, f"model={model}", "--out", out / "trained"),
        "eval": ("my-videos", *videos, "--model", model),
        "info": (model,),
        "convert": (model, out / "converted"),
        "init": ("--from", model, "--out", out / "begun"),
        "profile": (model,),
    }[verb]


LOADING = ("classify", "embed", "index", "train", "eval")
READING = ("info", "convert", "init", "profile")  # files of weights, of any kind of model


@pytest.mark.parametrize(
    ("verb", "name"),
    [(verb, name) for verb in LOADING for name in (ABSENT, MISSHAPEN, DAMAGED, BIG_ENDIAN)]
    + [(verb, name) for verb in READING for name in (DAMAGED, BIG_ENDIAN)],
)
def test_every_verb_reports_an_unloadable_model_in_the_same_words(
    run: Run, verb: str, name: str, models: Path, clip_folder: Path, data: Path, tmp_path: Path
) -> None:
    ran = run(verb, *command(verb, models / name, clip_folder / "red2.mp4", data, tmp_path))
    assert ran.stderr == f"openxclip: {message_of(models, name)}\n"
    assert ran.returncode == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what reads and writes the index
def test_search_in_an_index_whose_model_is_missing(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    model, index = Path(shutil.copytree(tiny_folder, tmp_path / "model")), tmp_path / "index"
    assert run("index", clip_folder / "red2.mp4", "--to", index, "--model", model, "--device", "cpu").returncode == 0
    shutil.rmtree(model)
    said = {verb: run(verb, *rest, "--in", index) for verb, rest in (("search", ("a red video",)), ("dedup", ()))}
    assert said["dedup"].returncode == 0, said["dedup"].stderr
    assert said["search"].returncode == 1
    assert said["search"].stderr == f"openxclip: {message_of(tmp_path, ABSENT).replace(ABSENT, 'model')}\n"


def test_embed_resumes_although_the_model_is_missing(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """The part of an earlier run is there, but no work of this run, of which it could say that it is kept."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        openxclip.embed(clip_folder, tmp_path / "f.npz", model=tiny_folder, device="cpu", on_video=interrupt)
    assert (tmp_path / "f.npz.part").is_dir()
    ran = run("embed", clip_folder, "--model", tmp_path / ABSENT, "--out", tmp_path / "f.npz")
    assert ran.stderr == f"openxclip: {message_of(tmp_path, ABSENT)}\n"


def test_a_file_in_place_of_a_model_folder(run: Run, models: Path, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.touch()
    ran = run("init", "--from", models / DAMAGED, "--out", target)
    assert ran.stderr == f"openxclip: {target}: is a file, but this model needs a folder: choose another place.\n"


def test_a_message_names_the_folder_only(tmp_path: Path) -> None:
    """A model is written into a folder of another name first; what fails there is told of the name that was given."""
    target = tmp_path / "model"
    with pytest.raises(CheckpointError) as caught, atomic_model_folder(target) as folder:
        raise CheckpointError(f"{folder}/config.json: is not JSON.")
    assert str(caught.value) == f"{target}/config.json: is not JSON."
    assert not list(tmp_path.iterdir())
