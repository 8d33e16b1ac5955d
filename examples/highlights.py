"""Cut the moments of a long video that fit a sentence into clips of their own.

python examples/highlights.py [VIDEO] [SENTENCE] [OUT]     (needs the extra `search`)
"""

import sys
from pathlib import Path

from openxclip import VideoIndex
from openxclip.playground import export_clip, film
from openxclip.video import VideoReader, frame_range


def main(video: str = "", sentence: str = "something hides behind something", out: str = "runs/highlights") -> None:
    """Find the three best moments and write each to a file; without a video, render a film of one minute."""
    folder = Path(out)
    video = video or str(film(60, seed=2, size=96, fps=8).save(folder / "film.mp4"))
    index = VideoIndex.open(folder / f"{Path(video).stem}.index", model="mini", window=2, stride=1)
    index.add(video)
    with VideoReader(video) as reader:
        for number, hit in enumerate(index.search(sentence, k=3, min_score=0.5), 1):
            shown = frame_range(times=reader.times, start=hit.start, end=hit.end)
            frames_THWC = reader.get_frames(shown).frames_THWC
            target = export_clip(frames_THWC.movedim(-1, 1), folder / f"{number}.mp4", fps=reader.fps)
            print(f"{target}: {hit.start:.1f} to {hit.end:.1f} s, score {hit.score:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
