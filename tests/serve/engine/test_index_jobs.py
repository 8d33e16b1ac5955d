"""Index jobs as their process does them: what is added, what was deleted, and folders without videos."""

from __future__ import annotations

import shutil
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openxclip import VideoIndex, VideoPipeline
from openxclip.search.opening import OpenIndex
from openxclip.serve.engine.job_child import JobWork, index_videos, serve
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.settings import ServeSettings

pytestmark = pytest.mark.slow  # imports PyTorch and LanceDB


def test_deleted_videos_leave_the_index_unless_a_disk_may_be_gone(
    tmp_path: Path, tiny_folder: Path, clip_folder: Path
) -> None:
    films, empty = tmp_path / "films", tmp_path / "empty"
    shutil.copytree(clip_folder, films)
    empty.mkdir()
    settings = ServeSettings(model=str(tiny_folder), data=tmp_path / "data")
    sent: list[tuple[Any, ...]] = []

    def index(*folders: Path) -> dict[str, Any]:
        sent.clear()
        names = {str(folder): folder.name for folder in (films, empty)}
        arguments = {"paths": [str(folder) for folder in folders], "names": names}
        return index_videos(JobWork(arguments, EngineSettings.of(settings), sent.append))

    def notes() -> list[str]:
        return [message[1] for message in sent if message[0] == "note"]

    nothing = index(empty)
    assert (nothing["added"], nothing["unreadable"], nothing["empty"]) == (0, 0, ["empty"])
    assert notes() == ["empty: has no videos."]
    assert not settings.index_folder.exists()

    done = index(films, empty)
    assert (done["added"], done["removed"], done["unreadable"], done["empty"]) == (3, 0, 0, ["empty"])

    videos = sorted(films.rglob("*.mp4"))
    videos[0].unlink()
    assert index(empty)["removed"] == 0  # another folder
    done = index(films)
    assert (done["unchanged"], done["removed"]) == (2, 1)
    assert len(VideoIndex.open(settings.index_folder).files()) == 2

    for video in videos[1:]:
        video.unlink()
    done = index(films)
    assert done["removed"] == 0
    assert notes()[-1].startswith("2 videos of the index can't be found, but stay in it, because a disk may not be")
    assert len(VideoIndex.open(settings.index_folder).files()) == 2


def test_an_index_of_another_model_is_named_without_its_folder(tmp_path: Path, tiny_folder: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    with torch.no_grad():
        pipeline.model.logit_scale += 1
    for part in (pipeline.model, pipeline.processor):
        part.save_pretrained(tmp_path / "other")
    settings = ServeSettings(model=str(tiny_folder), data=tmp_path / "data")
    index = OpenIndex(settings.index_folder, str(tmp_path / "other"), {"window": 1.0}, {"device": "cpu"})
    index.pipeline()
    sent: list[tuple[Any, ...]] = []
    messages: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
    (tmp_path / "a.mp4").touch()
    messages.put(("run", "index", {"paths": [str(tmp_path / "a.mp4")], "names": {}}, EngineSettings.of(settings)))
    serve(SimpleNamespace(send=sent.append), messages)  # type: ignore[arg-type]
    kind, code, text = sent[-1]
    assert (kind, code) == ("error", "invalid")
    assert text.startswith(f"the index was made with the model other; {tiny_folder.name} has other weights")
