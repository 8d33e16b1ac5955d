"""Watch a camera and print the label whenever it changes. Here a file takes the camera's place.

python examples/webcam_loop.py [VIDEO]
"""

import sys
from collections import deque

from openxclip import ReadOptions, VideoPipeline, classify
from openxclip.playground import film
from openxclip.video import VideoReader

LABELS = ["something moves left", "something flips", "something approaches", "something moves down"]


def main(video: str = "") -> None:
    """Classify the last two seconds, twice a second; without a video, render a film."""
    video = video or str(film(10, seed=3, size=96).save("runs/camera.mp4"))
    pipeline = VideoPipeline.from_pretrained("mini", isolate=False)
    with VideoReader(video) as camera:
        window = deque(maxlen=round(2 * camera.fps))
        shown = ""
        for number, frame in enumerate(camera, 1):  # with a real camera: a loop over its frames, uint8 RGB (H, W, 3)
            window.append(frame)
            if len(window) == window.maxlen and number % round(camera.fps / 2) == 0:
                (result,) = classify(list(window), LABELS, model=pipeline, read=ReadOptions(fps=camera.fps))
                if result.outcome != shown:
                    shown = result.outcome
                    print(f"{number / camera.fps:5.1f} s  {shown}  (score {result.labels[0].score:.2f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
