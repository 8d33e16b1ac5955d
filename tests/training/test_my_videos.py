"""The recipe `my-videos` teaches mini three actions that it has never seen, from eight clips of each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from openxclip.evaluation import evaluate_recipe
from openxclip.playground.world import ACTIONS as KNOWN
from openxclip.training import train

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))


@pytest.mark.slow
@pytest.mark.timeout(1500)  # about 75 s on two idle cores, but much longer on a busy machine
def test_my_videos_teaches_three_new_actions(tmp_path: Path) -> None:
    import my_videos

    assert not {action.name for action in KNOWN} & set(my_videos.ACTIONS)
    my_videos.write_clips(tmp_path / "train", 8, seed=1)
    my_videos.write_clips(tmp_path / "test", 8, seed=2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        changes = ("model=mini", f"data={tmp_path / 'train'}", "hold_out=0", "eval_every=0", "workers=1")
        result = train("my-videos", *changes, out=tmp_path / "out", say=lambda text: None)
        assert result.finished
        evaluated = evaluate_recipe("my-videos", f"data={tmp_path / 'test'}", "hold_out=0", model=tmp_path / "out")
    finally:
        torch.set_num_threads(before)
    assert len(evaluated.predictions) == 24
    assert evaluated.metrics["top1"] >= 0.9
