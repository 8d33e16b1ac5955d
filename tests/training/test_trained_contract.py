"""`train` writes the contract of time: windows as long as the clips that the model was trained on."""

from __future__ import annotations

import math
import statistics
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from made_contracts import contract_in, with_contract

from openxclip import CheckpointError, XCLIPConfig
from openxclip.config import NEUTRAL_TEXTS, LabelThreshold, TimeContract
from openxclip.datasets import Dataset, Sample, open_dataset
from openxclip.recipes import read_recipe
from openxclip.training import plan_training, train
from openxclip.training.batches import ClipKey
from openxclip.training.contract import contract_after_training, describe_windows
from openxclip.training.distributed import Processes
from openxclip.training.loading import TrainClips
from openxclip.training.loop import TrainingLoop
from openxclip.training.setup import Setup, load_model
from openxclip.video.writing import write_mp4

PLAIN = ("workers=0", "hold_out=0", "warmup_epochs=0", "epochs=1", "jitter=0", "grey=0", "batch=4", "batch_per_pass=4",
         "precision=fp32")  # fmt: skip


def write_seconds(path: Path, *, frames: int, fps: int = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.random.default_rng(frames).integers(0, 255, (frames, 32, 32, 3), dtype=np.uint8)
    with path.open("wb") as file:
        write_mp4(pictures, file, fps=fps)


@pytest.fixture(scope="module")
def lengths_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of videos of 0.5, 0.9 and 1.3 s, and of 0.7 and 2 s: the median is 0.9 s."""
    root = tmp_path_factory.mktemp("lengths")
    for name, counts in (("first", (5, 9, 13)), ("second", (7, 20))):
        for count in counts:
            write_seconds(root / name / f"{count}.mp4", frames=count)
    return root


def test_the_window_is_the_median_length() -> None:
    config = XCLIPConfig(vision_config={"num_frames": 16})
    contract = contract_after_training(config, [9.0, 1.0, 2.5])
    assert contract == TimeContract(window=2.5, stride=1.25, num_frames=16)
    assert contract_after_training(config, [1.0, 2.0]).window == 1.5
    assert contract_after_training(config, [1 / 3]).to_dict()["window"] == 0.333
    assert contract_after_training(config, [1e-9]).window == 0.002
    unknown = contract_after_training(config, [])
    assert (unknown.window, unknown.stride, unknown.num_frames) == (None, None, 16)
    assert describe_windows(contract, 3) == (
        "the model's window is 2.5 s, the median length of 3 training clips; windows start 1.25 s apart"
    )
    assert "the length of no training clip is known" in describe_windows(unknown, 0)


def test_threshold_and_neutral_texts_are_kept_but_calibrated_thresholds_are_dropped() -> None:
    own = {"a": LabelThreshold(threshold=0.9, false_alarms=1.0)}
    before = TimeContract(window=10, stride=3, num_frames=4, threshold=0.7, neutral_texts=("nobody",), labels=own)
    config = XCLIPConfig(openxclip=before.to_dict())
    expected = TimeContract(window=2, stride=1, num_frames=8, threshold=0.7, neutral_texts=("nobody",))
    assert contract_after_training(config, [2.0]) == expected
    assert contract_after_training(config, []).window is None


def test_the_length_of_a_sample(tmp_path: Path) -> None:
    write_seconds(tmp_path / "x.mp4", frames=20)
    write_seconds(tmp_path / "one.mp4", frames=1)
    np.save(tmp_path / "untimed.npy", np.zeros((20, 32, 32, 3), np.uint8))
    x, untimed = str(tmp_path / "x.mp4"), str(tmp_path / "untimed.npy")
    samples = [
        (Sample(x, label=0), 2.0),
        (Sample(x, label=0, start=0.5), 1.5),
        (Sample(x, label=0, start=0.5, end=1.2), 0.7),
        (Sample(x, label=0, end=60.0), 2.0),
        (Sample(str(tmp_path / "one.mp4"), label=0), math.nan),
        (Sample(str(tmp_path / "none.mp4"), label=0), math.nan),
    ]
    clips = TrainClips([s for s, _ in samples], num_frames=4, size=32, crop_scales=(1.0,), seed=0, steps_per_epoch=1)
    read = [clips[ClipKey(i, 0, 0, True)][2] for i in range(len(samples))]
    assert read == pytest.approx([length for _, length in samples], nan_ok=True)
    with pytest.warns(UserWarning, match="25 frames a second were assumed"):
        (_, _, seconds) = TrainClips(
            [Sample(untimed, label=0)], num_frames=4, size=32, crop_scales=(1.0,), seed=0, steps_per_epoch=1
        )[ClipKey(0, 0, 0, True)]
    assert math.isnan(seconds)


def test_train_writes_the_contract(tiny_folder: Path, lengths_folder: Path, tmp_path: Path) -> None:
    model = with_contract(tiny_folder, tmp_path / "start", {"window": 30, "threshold": 0.7, "neutral_texts": ["empty"]})
    said: list[str] = []
    for name, start in (("plain", tiny_folder), ("kept", model)):
        train("my-videos", f"model={start}", f"data={lengths_folder}", *PLAIN, out=tmp_path / name, say=said.append)
    plain = {"window": 0.9, "stride": 0.45, "frames": 4, "threshold": 0.5, "neutral_texts": list(NEUTRAL_TEXTS)}
    assert contract_in(tmp_path / "plain") == plain
    assert contract_in(tmp_path / "kept") == {**plain, "threshold": 0.7, "neutral_texts": ["empty"]}
    line = "the model's window is 0.9 s, the median length of 5 training clips; windows start 0.45 s apart"
    assert said.count(line) == 2
    card = (tmp_path / "plain" / "README.md").read_text()
    assert "The median clip lasts 0.9 s, which is the window in which the model looks for moments" in card


@pytest.mark.filterwarnings("ignore:folders of images")
def test_clips_of_unknown_length_give_no_window(tiny_folder: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / "data" / name).mkdir(parents=True)
        np.save(tmp_path / "data" / name / "x.npy", np.zeros((6, 32, 32, 3), np.uint8))
    said: list[str] = []
    train("my-videos", f"model={tiny_folder}", f"data={tmp_path / 'data'}", *PLAIN, out=tmp_path / "out",
          say=said.append)  # fmt: skip
    assert contract_in(tmp_path / "out") == {"frames": 4, "threshold": 0.5, "neutral_texts": list(NEUTRAL_TEXTS)}
    assert any(text.startswith("the length of no training clip is known") for text in said)
    assert "The median clip lasts" not in (tmp_path / "out" / "README.md").read_text()


def test_lengths_are_known_after_a_training_was_resumed(
    tiny_folder: Path, lengths_folder: Path, tmp_path: Path
) -> None:
    recipe = read_recipe("my-videos", [f"model={tiny_folder}", *PLAIN, "eval_every=0"])
    dataset: Dataset = open_dataset(lengths_folder)
    stop = threading.Event()

    def loop(folder: Path) -> TrainingLoop:
        setup = Setup(recipe, *load_model(recipe), dataset, None, Processes(0, 1, torch.device("cpu")))
        return TrainingLoop(setup, folder, stop=stop, on_step=lambda report: stop.set())

    first = loop(tmp_path).run()
    assert (first.step, first.finished, len(first.clip_seconds)) == (1, False, 4)
    stop.clear()
    second = loop(tmp_path).run()
    assert (second.finished, len(second.clip_seconds)) == (True, 5)
    assert statistics.median(second.clip_seconds) == pytest.approx(0.9)


def test_an_invalid_contract_is_refused_before_the_training(
    tiny_folder: Path, lengths_folder: Path, tmp_path: Path
) -> None:
    model = with_contract(tiny_folder, tmp_path / "start", {"neutral_texts": []})
    arguments = ("my-videos", f"model={model}", f"data={lengths_folder}", *PLAIN)
    said = r"start: config.json: openxclip: neutral_texts=\[\]: must be a list of one or more texts"
    with pytest.raises(CheckpointError, match=said):
        plan_training(*arguments)
    with pytest.raises(CheckpointError, match=said):
        train(*arguments, out=tmp_path / "out", say=lambda text: None)
    assert not (tmp_path / "out").exists()
