"""Misspelt names, devices that aren't here, texts that are too long, and names that aren't UTF-8."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from openxclip import VideoPipeline, check, classify
from openxclip.common.files import NOT_UTF8
from openxclip.hub import suggest_model
from openxclip.model.devices import as_device
from openxclip.processing import CLIPTokenizer
from openxclip.processing.texts import check_distinct, warn_of_cuts
from openxclip.training import train
from openxclip.training.errors import TrainingError

Run = Callable[..., Any]
LONG = "a cat that sits on a mat " * 15


# --------------------------------------------------------------------------------------------------- misspelt names


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("clasify", "classify"), ("serch", "search"), ("indx", "index"), ("trian", "train"), ("model", "models")],
)
def test_a_misspelt_command_gets_a_suggestion(typed: str, meant: str, run: Run) -> None:
    ran = run(typed, "x")
    assert ran.returncode == 2
    assert f"No such command '{typed}': did you mean {meant}?" in ran.stderr
    assert "did you mean" not in run("xyzxyz").stderr


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("minni", "mini"),
        ("Mini", "mini"),
        ("xclip-base-patch32", "microsoft/xclip-base-patch32"),
        ("microsoft/xclip-base-patch23", "microsoft/xclip-base-patch32"),
        ("microsfot/xclip-large-patch14", "microsoft/xclip-large-patch14"),
    ],
)
def test_a_misspelt_model_gets_a_suggestion_in_every_verb(
    typed: str, meant: str, run: Run, clip_folder: Path, tmp_path: Path
) -> None:
    video = clip_folder / "red2.mp4"
    for arguments in (
        ("classify", video, "--labels", "a, b", "--model", typed),
        ("embed", video, "--model", typed, "--out", tmp_path / "f.npz"),
        ("convert", typed, tmp_path / "converted"),
        ("init", "--from", typed, "--out", tmp_path / "started"),
        ("profile", typed),
    ):
        ran = run(*arguments)
        assert ran.returncode in (1, 2)
        assert f"id you mean {meant}?" in ran.stderr, (arguments[0], ran.stderr)
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_folder_gets_a_suggestion(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_folder, tmp_path / "my-model")
    (tmp_path / "recordings").mkdir()
    assert suggest_model(str(tmp_path / "my-modle")) == f"did you mean {tmp_path / 'my-model'}?"
    monkeypatch.chdir(tmp_path)
    assert suggest_model("./my-modle") == "did you mean ./my-model?"
    assert suggest_model("recording") == ""  # what is there is no model
    assert suggest_model("mini") == ""
    assert suggest_model("openai/clip-vit-base-patch32") == ""


# ---------------------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:99", "cuda", "tpu", "cpu:x", "meta"])
def test_every_verb_refuses_a_missing_device(
    device: str, run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    if device == "cuda":
        monkeypatch.setattr(torch, "empty", _fails)
    video, model = clip_folder / "red2.mp4", ("--model", tiny_folder, "--device", device)
    for arguments in (
        ("classify", video, "--labels", "a, b", *model),
        ("embed", video, "--out", tmp_path / "f.npz", *model),
        ("index", video, "--to", tmp_path / "index", *model),
        ("train", "my-videos", f"data={clip_folder}", "--device", device, "--out", tmp_path / "out"),
    ):
        ran = run(*arguments)
        assert ran.returncode == 2
        said = " ".join(ran.stderr.split())
        assert f"device '{device}' can't be used here" in said
        assert said.endswith("There is: cpu."), said
        assert len(said) < 300
    assert not (tmp_path / "out").exists()


def _fails(*_: Any, device: Any = None, **__: Any) -> Any:
    raise AssertionError("Torch not compiled with CUDA enabled")


def test_a_gpu_by_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"by this name: it is called cuda:0\. There is: cpu, cuda:0, cuda:1\.$"):
        as_device("gpu")


def test_train_in_python_checks_the_device_first(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device 'gpu' can't be used here"):
        train("my-videos", f"data={clip_folder}", out=tmp_path / "out", device="gpu")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------- training claims nothing early


@pytest.fixture
def data(clip_folder: Path, tmp_path: Path) -> Path:
    """Two classes of two videos each."""
    for name in ("reds/a", "reds/b", "blues/a", "blues/b"):
        path = tmp_path / "data" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip_folder / ("red2.mp4" if name < "c" else "red10.mp4"), path)
    return tmp_path / "data"


@pytest.mark.parametrize("model", ["minni", "someone/not-in-the-cache", "./nowhere", "{empty}"])
def test_train_without_a_model_writes_nothing(model: str, run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    ran = run("train", "my-videos", f"data={data}", f"model={model.format(empty=tmp_path / 'empty')}", "--out", out)
    assert ran.returncode == 1
    assert not out.exists()
    assert "--model" not in ran.stderr  # which train hasn't got
    assert "Traceback" not in ran.stderr


@pytest.mark.slow
def test_the_advice_for_an_unreachable_hub_works(run: Run, data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    how = ("train", "my-videos", f"data={data}", "epochs=1", "warmup_epochs=0", "workers=0", "hold_out=0", "batch=4",
           "batch_per_pass=4", "--out", tmp_path / "out")  # fmt: skip
    ran = run(*how, "model=someone/not-in-the-cache")
    assert "HF_HUB_OFFLINE is set. Unset HF_HUB_OFFLINE, or name a model's folder." in ran.stderr
    assert run(*how, f"model={tiny_folder}").returncode == 0  # into the same folder


def test_a_damaged_training_record_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "out/training").mkdir(parents=True)
    (tmp_path / "out/training/training.json").write_text("{")
    with pytest.raises(
        TrainingError, match=r"training\.json: is damaged: choose another folder, or delete .*out to start over"
    ):
        train("my-videos", f"data={data}", out=tmp_path / "out")


def test_advice_names_keys_of_the_recipe(run: Run, data: Path, clip_folder: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(data, tmp_path / "splits" / split)
    how = ("eval", "my-videos", f"data={data}", f"val_data={tmp_path / 'splits'}", "--model", "mini")
    ran = run(*how)
    assert "has the splits train, test: choose one with val_split=." in ran.stderr
    assert "choose one with" not in run(*how, "val_split=test", "clips=0").stderr
    (tmp_path / "list.csv").write_text("path,label\nred2.mp4,red\nmore/blue.mp4,blue\n")
    how = ("eval", "my-videos", f"data={tmp_path / 'list.csv'}", "hold_out=0", "--model", "./nowhere")
    assert "give their folder with videos=." in run(*how).stderr
    assert "./nowhere: there is no such folder" in run(*how, f"videos={clip_folder}").stderr  # the next problem


# --------------------------------------------------------------------------------------------------- texts too long


@pytest.mark.filterwarnings("always")  # which the command shows
def test_a_label_that_is_too_long_is_named_with_its_length(run: Run, clip_folder: Path, tiny_folder: Path) -> None:
    ran = run(
        "classify", clip_folder / "red2.mp4", "--labels", f"{LONG}, red", "--model", tiny_folder, "--device", "cpu"
    )
    assert ran.returncode == 0
    said = " ".join(ran.stderr.split())
    assert "note: the label 'a cat that sits on a mat a cat … " in said
    assert "has 107 tokens, but the model reads 77: the rest is ignored." in said
    assert "truncation" not in said


def test_labels_that_are_equal_after_truncation_are_refused(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.txt").write_text(f"{LONG}one\n{LONG}two\n")
    model = ("--model", tiny_folder, "--device", "cpu")
    ran = run("classify", clip_folder / "red2.mp4", "--labels-file", tmp_path / "labels.txt", *model)
    assert ran.returncode == 2
    said = " ".join(ran.stderr.split())
    assert "mat one' and 'a cat" in said
    assert "are the same to the model, which reads texts only up to 77 tokens: make them differ earlier" in said
    with pytest.raises(ValueError, match="only up to 77 tokens"):
        classify(clip_folder / "red2.mp4", [f"{LONG}one", f"{LONG}two"], model=tiny_folder, device="cpu")


def test_a_template_that_leaves_no_room_for_labels(run: Run, clip_folder: Path, data: Path, tiny_folder: Path) -> None:
    model = ("--model", tiny_folder, "--device", "cpu")
    ran = run("classify", clip_folder, "--labels", "red, blue", "--template", f"{LONG}{{}}", *model)
    assert (ran.returncode, "are the same to the model" in " ".join(ran.stderr.split())) == (2, True)
    ran = run("eval", "my-videos", f"data={data}", "--template", f"{LONG}{{}}", *model)
    assert (ran.returncode, "the class names" in ran.stderr) == (1, True)


def test_train_checks_class_names_before_it_writes(run: Run, data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    ran = run(
        "train", "my-videos", f"data={data}", f"model={tiny_folder}", f"template={LONG}{{}}", "--out", tmp_path / "o"
    )
    assert ran.returncode == 1
    assert "are the same to the model" in ran.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.filterwarnings("always")  # which the command shows
def test_captions_that_are_too_long(run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    rows = [{"path": str(clip_folder / name), "text": f"{LONG}{name}"} for name in ("red2.mp4", "more/blue.mp4")]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = run("eval", "my-videos", f"data={tmp_path / 'l.jsonl'}", "hold_out=0", "loss=pairs", "--model", tiny_folder,
              "--device", "cpu")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "note: the caption 'a cat that sits" in ran.stderr
    assert "is ignored, also in 1 more." in ran.stderr


def test_texts_that_the_model_cannot_distinguish() -> None:
    tokenizer = CLIPTokenizer()
    for same in (["Run", "run"], ["a  b", "a b"]):
        with pytest.raises(ValueError, match=f"labels '{same[0]}' and '{same[1]}' are the same .* capitals and spaces"):
            check_distinct(tokenizer, same)
    check_distinct(tokenizer, ["run", "running", "run!"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_cuts(tokenizer, ["word " * 75])  # just fits
    with pytest.warns(UserWarning, match=r"^the text 'word .* has 78 tokens"):
        warn_of_cuts(tokenizer, ["word " * 76])


def test_long_texts_in_python(tiny_folder: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    with pytest.warns(UserWarning, match="the text 'a cat .* has 107 tokens, but the model reads 77"):
        features_KE = pipeline.encode_texts([LONG, "red"])
    assert features_KE.shape[0] == 2
    with pytest.warns(UserWarning, match=r"text 1 \('a cat .* has 107 tokens, .* Pass truncation=True"):
        pipeline.processor(text=["red", LONG], return_tensors="pt")


# ------------------------------------------------------------------------------------------------ names not in UTF-8


@pytest.fixture
def odd(clip_folder: Path, tmp_path: Path) -> Path:
    """A folder with a video whose name is not UTF-8, and another."""
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(clip_folder / "red2.mp4", os.fsdecode(os.fsencode(folder) + b"/bad\xff.mp4"))
    shutil.copy(clip_folder / "red2.mp4", folder / "good.mp4")
    return folder


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_embed_skips_names_that_are_not_utf8(
    suffix: str, run: Run, odd: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    ran = run("embed", odd, "--out", tmp_path / f"f{suffix}", "--model", tiny_folder, "--device", "cpu")
    assert ran.returncode == 1
    assert "bad\\udcff.mp4: its name is not valid UTF-8" in ran.stderr
    assert NOT_UTF8 in ran.stderr
    assert "1 row of 16 numbers from 1 video" in ran.stdout


@pytest.mark.slow
def test_printed_names_open_the_file_again(run: Run, odd: Path, tiny_folder: Path, tmp_path: Path) -> None:
    ran = run("classify", odd, "--labels", "red, blue", "--model", tiny_folder, "--device", "cpu")
    assert ran.returncode == 0
    assert all(Path(json.loads(line)["path"]).exists() for line in ran.stdout.splitlines())
    for name in ("r.json", "r.jsonl", "r.csv"):
        assert len(check(odd, full=False, jobs=1, report=tmp_path / name)) == 2
    assert all(Path(row["path"]).exists() for row in json.loads((tmp_path / "r.json").read_text(encoding="utf-8")))
    lines = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(Path(json.loads(line)["path"]).exists() for line in lines)
    cells = [line.split(b",")[0] for line in (tmp_path / "r.csv").read_bytes().splitlines()[1:]]
    assert all(os.path.exists(cell) for cell in cells)  # noqa: PTH110 (bytes)


@pytest.mark.slow
def test_training_on_names_that_are_not_utf8(run: Run, data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/data\xff")
    data.rename(odd)
    (Path(odd) / "reds/a.mp4").rename(Path(odd) / "reds" / os.fsdecode(b"a\xff.mp4"))
    how = (f"data={odd}", "hold_out=0")
    small = (f"model={tiny_folder}", "epochs=1", "warmup_epochs=0", "workers=0", "batch=4", "batch_per_pass=4")
    out = tmp_path / "out"
    ran = run("train", "my-videos", *how, *small, "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert b"data\xff" in (out / "README.md").read_bytes()
    ran = run("eval", "my-videos", *how, "--model", out, "--device", "cpu", "--out", tmp_path / "results")
    assert ran.returncode == 0, ran.stderr
    results = json.loads((tmp_path / "results/results.json").read_text(encoding="utf-8"))
    assert any(one["sample"].endswith("a\udcff.mp4") for one in results["predictions"])


def test_folders_of_models_whose_names_are_not_utf8(
    run: Run, clip_folder: Path, data: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff")
    for arguments in (
        ("train", "my-videos", f"data={data}", f"model={tiny_folder}", "--out", odd),
        ("convert", tiny_folder, odd),
        ("init", "--from", tiny_folder, "--out", odd),
    ):
        ran = run(*arguments)
        assert ran.returncode in (1, 2)
        said = " ".join(ran.stderr.split())
        assert "odd\\udcff: the path is not valid UTF-8, from which no model can be loaded: choose another" in said
    assert not Path(odd).exists()
    shutil.copytree(tiny_folder, odd)
    for arguments in (
        ("classify", clip_folder / "red2.mp4", "--labels", "a, b", "--model", odd),
        ("convert", odd, tmp_path / "x"),
    ):
        ran = run(*arguments)
        assert (ran.returncode, "the path is not valid UTF-8" in ran.stderr, "damaged" in ran.stderr) == (
            1,
            True,
            False,
        )
