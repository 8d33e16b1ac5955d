"""Corrections as a whole: an index of clips, labels, a head, and the list as data of `train` and `eval`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from openxclip import VideoIndex, VideoPipeline
from openxclip.datasets import open_dataset
from openxclip.evaluation.protocols import evaluate
from openxclip.playground import export_clip, render_clips
from openxclip.playground.world import ACTION_NAMES
from openxclip.serve.app import create_app
from openxclip.serve.engine.job_child import JobWork, train_model
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[3]
ACTIONS = {
    "bounces": "a thing jumps",
    "zigzags": "a thing swims",
    "spins clockwise": "a thing dances",
}  # what a user calls them


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of each action, named after it."""
    import torch

    folder = tmp_path_factory.mktemp("loop") / "films"
    folder.mkdir()
    for number, action in enumerate(ACTIONS):
        actions, things = torch.full((10,), ACTION_NAMES.index(action)), torch.arange(10) * 7
        clips = render_clips(10, seed=number, size=64, num_frames=24, actions=actions, things=things, empty=0, hard=0.5)
        for i, frames in enumerate(clips.frames):
            export_clip(frames, folder / f"{action} {i}.mp4", fps=12)
    return folder.resolve()


@pytest.fixture(scope="module")
def client(films: Path) -> Iterator[TestClient]:
    settings = ServeSettings(data=films.parent / "data", roots=(films,), model="mini", device="cpu")
    index = VideoIndex.open(settings.index_folder, model="mini", window=2.0, device="cpu")
    assert len(index.add(films).added) == 30
    with TestClient(create_app(settings), base_url="http://127.0.0.1:8000") as client:
        yield client


def get(client: TestClient, address: str, **query: Any) -> Any:
    answer = client.get(address, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def label(client: TestClient, window: dict[str, Any]) -> None:
    """Label a window as a user would: by what it shows."""
    action = Path(window["path"]).stem.rpartition(" ")[0]
    values = {name: window[name] for name in ("path", "start", "end")} | {"label": ACTIONS[action]}
    answer = client.put("/v1/labels", json=values)
    assert answer.status_code == 200, answer.text


@pytest.mark.slow
def test_labels_teach_names_that_the_model_never_saw(client: TestClient, films: Path) -> None:
    names = list(ACTIONS.values())
    orders = []
    for _ in range(5):
        found = get(client, "/v1/labels/proposals", n=4, labels=names)
        orders.append(found["order"])
        for window in found["proposals"]:
            label(client, window)
    result = client.post("/v1/labels/retrain", json={}).json()
    assert result["labels"] == 20
    assert result["held_out"] >= 18
    assert result["after"] > result["before"] + 0.2
    assert result["seconds"] < 60

    labelled = {each["video"] for each in get(client, "/v1/labels")["labels"]}
    right = []
    for path in sorted(films.glob("*.mp4")):
        if f"films/{path.name}" not in labelled:
            body = {"path": f"films/{path.name}", "labels": names, "head": "default"}
            answer = client.post("/v1/classify", json=body).json()["result"]
            right.append(answer["outcome"] == ACTIONS[path.stem.rpartition(" ")[0]])
    assert len(right) == 10
    assert sum(right) >= 7


@pytest.mark.slow
def test_a_training_job_and_eval_take_the_list_as_it_is(client: TestClient, films: Path, tmp_path: Path) -> None:
    for path in sorted(films.glob("* [01].mp4")):
        label(client, {"path": str(path), "start": 0.0, "end": 2.0})
    labels = tmp_path / "labels.csv"
    labels.write_bytes(client.get("/v1/labels.csv").content)
    assert labels.read_bytes() == (films.parent / "data" / "labels.csv").read_bytes()

    settings = EngineSettings.of(ServeSettings(data=tmp_path, model="mini", device="cpu"))
    changes = {"epochs": 1, "warmup_epochs": 0, "hold_out": 0}
    arguments = {"labels": str(labels), "name": "short", "changes": changes, "names": {str(films): "films"}}
    sent: list[tuple[Any, ...]] = []
    result = train_model(JobWork(arguments, settings, sent.append))
    assert result is not None
    assert (result["model"], result["epoch"]) == ("short", 1)
    assert ("progress", "done") in [(message[0], next(iter(message[1]))) for message in sent]
    assert str(tmp_path) not in str(sent)

    dataset = open_dataset(labels)
    assert not dataset.problems
    assert set(dataset.classes) == set(ACTIONS.values())
    results = evaluate(VideoPipeline.from_pretrained(tmp_path / "models" / "short", device="cpu"), dataset)
    assert results.num_samples == len(labels.read_text(encoding="utf-8").splitlines()) - 1
