"""Train a classifier of scikit-learn on the features of clips.

python examples/features_to_sklearn.py [FOLDER]     (FOLDER has a folder of clips for each class)
"""

import sys
from pathlib import Path

import numpy as np
import torch

from openxclip import embed, playground
from openxclip.datasets import open_dataset

try:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
except ImportError:
    sys.exit("This example needs scikit-learn: pip install scikit-learn")
ACTIONS = [playground.ACTION_NAMES.index(name) for name in ("bounces", "blinks", "spins clockwise", "zigzags")]


def main(folder: str = "runs/actions") -> None:
    """Test the classifier on each fifth of the clips after it learned from the others."""
    if folder == "runs/actions":  # render ten clips of each action, each with another thing
        clips = playground.render_clips(40, 0, things=torch.arange(40), actions=torch.tensor(ACTIONS * 10), empty=0)
        for number, frames in enumerate(clips.frames):
            path = Path(folder, clips.names(number)["action"], f"{number}.mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            playground.export_clip(frames, path, fps=4)
    dataset = open_dataset(folder)
    embed([sample.source for sample in dataset.samples], "runs/features.npz", model="mini", force=True)
    features, labels = np.load("runs/features.npz")["pooled"], [sample.label for sample in dataset.samples]
    accuracy = cross_val_score(LogisticRegression(max_iter=1000), features, labels, cv=5).mean()
    print(f"features {features.shape}, {len(dataset.classes)} classes, accuracy {accuracy:.0%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
