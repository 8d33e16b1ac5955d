"""Sort a folder of clips into a folder for each action.

python examples/sort_clips.py [CLIPS] [OUT]
"""

import shutil
import sys
from pathlib import Path

import openxclip

ACTIONS = ["moves left", "moves right", "leaves", "vanishes", "picks up something", "chases something"]


def main(clips: str = "samples", out: str = "runs/sorted") -> None:
    """Copy each clip into the folder of the action that it shows; the folder `none of these` has the rest."""
    for result in openxclip.iter_classify(clips, ACTIONS, model="mini"):
        if result.error is not None or result.outcome is None:
            print(f"skipped {result.path}: {result.error}")
            continue
        folder = Path(out) / result.outcome
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(result.path, folder)
        print(f"{folder / Path(result.path).name}  (score {result.labels[0].score:.2f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
