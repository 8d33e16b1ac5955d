"""Find the clips of a folder that are copies of others, in another encoding or only in part.

python examples/near_duplicates.py [CLIPS]     (needs the extra `search`)
"""

import shutil
import sys
from pathlib import Path

from openxclip import VideoIndex
from openxclip.playground import export_clip
from openxclip.video import VideoReader


def main(clips: str = "") -> None:
    """Print each clip that another one contains; without a folder, add two such clips to a copy of the samples."""
    clips = clips or copy_samples("runs/clips")
    index = VideoIndex.open(f"runs/{Path(clips).name}.index", model="mini", window=0.5)
    index.add(clips)
    for group in index.duplicates(min_similarity=0.9):
        for found in group.duplicates:
            part = f"{found.overlap:.0%} of it, from {found.begins:.1f} s, similarity {found.similarity:.2f}"
            print(f"{Path(found.path).name} is in {Path(group.path).name}  ({part})")


def copy_samples(folder: str) -> str:
    """Copy the samples, with a smaller copy of one and the second half of another."""
    shutil.copytree("samples", folder, dirs_exist_ok=True)
    with VideoReader("samples/fox_chases_a_chick.mp4") as fox, VideoReader("samples/rocket_leaves.mp4") as rocket:
        small, half = fox[:].frames_THWC[:, ::2, ::2], rocket[len(rocket) // 2 :].frames_THWC
        export_clip(small.movedim(-1, 1), f"{folder}/fox_small.mp4", fps=fox.fps)
        export_clip(half.movedim(-1, 1), f"{folder}/rocket_half.mp4", fps=rocket.fps)
    return folder


if __name__ == "__main__":
    main(*sys.argv[1:])
