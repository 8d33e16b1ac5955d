"""Draw docs/images/demo.png: the frames of some sample clips, and what the included model says about each.

    python scripts/docs/picture.py

Every number in the picture comes from a run of `openxclip.classify` with `mini`.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import openxclip
from openxclip.video import read_clip

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ["eagle_picks_up_a_snake", "fox_chases_a_chick", "cat_moves_left", "mouse_hides_behind_an_elephant"]
FRAMES, TOP = 4, 3


def main() -> None:
    """Classify the clips and draw the picture."""
    paths = [ROOT / "samples" / f"{name}.mp4" for name in CLIPS]
    labels = (ROOT / "samples" / "labels.txt").read_text(encoding="utf-8").splitlines()
    results = openxclip.classify(paths, labels, model="mini")
    widths = [1.0] * FRAMES + [3.2]
    figure, rows = plt.subplots(
        len(paths), FRAMES + 1, figsize=(11, 5.0), width_ratios=widths, layout="constrained", dpi=110
    )
    for path, result, axes in zip(paths, results, rows, strict=True):
        assert result.error is None, result.error
        for frame, axis in zip(read_clip(path, num_frames=FRAMES).frames_THWC, axes, strict=False):
            axis.imshow(frame)
            axis.set(xticks=[], yticks=[])
        bars, best = axes[-1], result.labels[:TOP]
        bars.barh([score.label for score in best], [score.probability for score in best], color="#5b7db1", height=0.55)
        bars.patches[0].set_color("#e4572e")
        for place, score in enumerate(best):
            bars.text(score.probability + 0.02, place, f"{score.probability:.1%}", va="center", fontsize=9)
        bars.invert_yaxis()
        bars.set(xlim=(0, 1.2), xticks=[])
        bars.tick_params(axis="y", labelsize=9, length=0)
        bars.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(ROOT / "docs" / "images" / "demo.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
