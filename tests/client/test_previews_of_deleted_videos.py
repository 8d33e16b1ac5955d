"""A preview that is being made when its video is deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from openxclip.serve.engine.tasks import PreviewTask
from openxclip.serve.errors import ApiError
from openxclip.serve.media import Media


class Slow:
    """An engine that never finishes a preview."""

    async def run(self, task: Any, *, on_progress: Any = None) -> dict[str, Any]:
        if isinstance(task, PreviewTask):
            await asyncio.Event().wait()
        return {"path": "a.avi", "container": "avi", "codec": "mpeg4", "error": None}


class Late:
    """An engine that reads a video only when it has been deleted."""

    async def run(self, task: Any, *, on_progress: Any = None) -> dict[str, Any]:
        task.path.unlink()
        return {"path": "a.mp4", "container": None, "codec": None, "error": "there is no such file"}


def test_a_video_that_is_deleted_before_it_is_read_is_not_found_instead_of_unreadable(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"x")
    media = Media(Late(), tmp_path / "previews")  # type: ignore[arg-type]
    with pytest.raises(ApiError, match="deleted") as raised:
        asyncio.run(media.playing(video, "a.mp4"))
    assert raised.value.code == "video_not_found"


def test_the_video_is_no_longer_there_for_the_request_that_waits(tmp_path: Path) -> None:
    async def ask() -> None:
        video = tmp_path / "a.avi"
        video.write_bytes(b"x")
        media = Media(Slow(), tmp_path / "previews")  # type: ignore[arg-type]
        waiting = asyncio.create_task(media.playing(video, "a.avi"))
        await asyncio.sleep(0.05)
        media.forget(video)
        with pytest.raises(ApiError) as raised:
            await waiting
        assert raised.value.status_code == 404

    asyncio.run(ask())
