"""Draw the timeline of a film of the playground, on light and on dark: docs/images/timeline.png, timeline-dark.png.

    python scripts/docs/timeline_pictures.py     (needs the extra `plots`)

mini finds the moments; nothing in the pictures is made up. The labels are captions of the film's events, and one of
something that doesn't happen in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image

import openxclip
from openxclip.playground import film
from openxclip.timelines.plots import plot_timeline

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
SECONDS, SEED, NUM_EVENTS = 60.0, 0, 5
ABSENT = "a cat moves left"


def save(picture: Path, path: Path) -> None:
    """Write a PNG with a palette of 256 colours, which is a quarter of the size."""
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)


def main() -> None:
    """Render the film, find its moments and draw them."""
    with tempfile.TemporaryDirectory() as folder:
        made = film(SECONDS, SEED, size=256, fps=24)
        video = made.save(Path(folder) / "film.mp4")
        labels = [*[event.caption for event in made.events[::3]][:NUM_EVENTS], ABSENT]
        timeline = openxclip.timeline(video, labels, model="mini", shots="exact")
        for name, dark in (("timeline", False), ("timeline-dark", True)):
            save(plot_timeline(timeline, Path(folder) / f"{name}.png", dark=dark), IMAGES / f"{name}.png")
            print(f"{name}.png: {(IMAGES / f'{name}.png').stat().st_size / 1000:.0f} kB")
        for segment in timeline.segments:
            print(f"{segment.start:6.2f} {segment.end:6.2f} {segment.score:.2f} {segment.label}")
        for event in made.events:
            if event.caption in labels:
                print(f"{event.start:6.2f} {event.end:6.2f} {event.caption}")


if __name__ == "__main__":
    main()
