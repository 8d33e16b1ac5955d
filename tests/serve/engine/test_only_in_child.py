"""The server's decoders never read in the process of the model, whatever fails."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from openxclip.errors import DecoderCrashError, VideoError
from openxclip.video import ClipPlan, DecodeWorker

pytestmark = pytest.mark.slow  # starts decoders
PLAN = ClipPlan(num_frames=1)


def test_a_decoder_that_does_not_start_is_an_error_and_the_next_read_starts_another(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(script))
        worker = DecodeWorker(only_in_child=True)
        with pytest.raises(DecoderCrashError, match=r"red2\.mp4: no process could be started to read it"):
            worker.read_clips(clip_folder / "red2.mp4", PLAN)
    with worker:
        assert len(worker.read_clips(clip_folder / "red2.mp4", PLAN)) == 1


def test_a_decoder_that_is_killed_is_told_from_one_that_refuses(clip_folder: Path, tmp_path: Path) -> None:
    with DecodeWorker(only_in_child=True) as worker:
        worker.read_clips(clip_folder / "red2.mp4", PLAN)
        assert worker._child is not None
        os.kill(worker._child._process.pid, signal.SIGSTOP)
        os.kill(worker._child._process.pid, signal.SIGKILL)
        with pytest.raises(DecoderCrashError, match="was killed"):
            worker._child.ask({"task": "inspect"}, b"", "x", None, lambda end, duration: None)
        assert len(worker.read_clips(clip_folder / "red2.mp4", PLAN)) == 1
        with pytest.raises(VideoError, match="no such file") as error:
            worker.read_clips(tmp_path / "none.mp4", PLAN)
        assert type(error.value) is VideoError


@pytest.mark.parametrize("source", ["/dev/stdin", "/proc/self/fd/0"])
def test_what_another_process_cannot_open_is_refused(source: str) -> None:
    with DecodeWorker(only_in_child=True) as worker, pytest.raises(VideoError):
        worker.read_clips(source, PLAN)
