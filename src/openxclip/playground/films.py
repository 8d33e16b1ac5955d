"""Make films with many events at known times, to test timelines and search."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from openxclip.common.files import atomic_file
from openxclip.playground.captions import Scene
from openxclip.playground.clips import Split, draw_pairs, render_clips
from openxclip.playground.export import export_clip, refuse_existing
from openxclip.playground.motion import uniform
from openxclip.playground.world import ACTION_NAMES, ACTIONS, SEEN_THINGS, THINGS

_EVENT_S, _PAUSE_S = (1.5, 4.0), (0.5, 3.0)  # minimum and maximum duration


@dataclass(frozen=True)
class Event:
    """An event of a film.

    Attributes:
        start, end: seconds from the film's start.
        caption: for example "a cat chases a dog".
        thing, action, other: names of the thing, its action and the other thing; "" for no other thing.
    """

    start: float
    end: float
    caption: str
    thing: str
    action: str
    other: str


@dataclass(frozen=True)
class _Shot:
    num_frames: int
    seed: int
    indices: tuple[int, int, int] | None  # thing, action and other thing; None for a pause


class Film:
    """A film: shots of one event each, and pauses between them.

    Shots are rendered one at a time, so that a long film takes no more memory than its longest shot.

    Attributes:
        events: the events in order.
        num_frames: number of frames of the whole film.
        fps: frames per second.
        size: side of the square frames, in pixels.
    """

    def __init__(self, shots: list[_Shot], events: list[Event], *, fps: float, size: int, hard: float) -> None:
        self._shots, self._hard = shots, hard
        self.events, self.fps, self.size = tuple(events), fps, size
        self.num_frames = sum(shot.num_frames for shot in shots)

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return self.num_frames / self.fps

    def shots(self, on_shot: Callable[[float], object] = lambda end: None) -> Iterator[Tensor]:
        """Yield the frames of each shot, uint8 (T, 3, H, W).

        Args:
            on_shot: called with the end of each shot, in seconds, after the shot was used.
        """
        num_frames = 0
        for shot in self._shots:
            thing, action, other = (torch.tensor([index]) for index in shot.indices or (0, 0, 1))
            yield render_clips(
                1,
                shot.seed,
                size=self.size,
                num_frames=shot.num_frames,
                things=thing,
                actions=action,
                others=other,
                empty=0.0 if shot.indices else 1.0,
                hard=self._hard,
            ).frames[0]
            num_frames += shot.num_frames
            on_shot(num_frames / self.fps)

    @property
    def frames(self) -> Tensor:
        """All frames, uint8 (T, 3, H, W)."""
        return torch.cat(list(self.shots()))

    def save(
        self, path: str | Path, *, replace: bool = True, on_shot: Callable[[float], object] = lambda end: None
    ) -> Path:
        """Write the film as mp4, and its events as JSON beside it (`film.json` for `film.mp4`).

        Args:
            path: path of the film; its folder is created if it doesn't exist.
            replace: replace existing files.
            on_shot: called with the end of each shot, in seconds, after the shot is written.

        Raises:
            FileExistsError: one of the two files exists and `replace` is False.
            ValueError: the side is odd, which H.264 in yuv420p can't represent.
            OSError: a file can't be written.
        """
        path = Path(path)
        if not replace:
            refuse_existing(path, path.with_suffix(".json"))
        path.parent.mkdir(parents=True, exist_ok=True)
        export_clip(self.shots(on_shot), path, fps=self.fps)
        summary = {"fps": self.fps, "duration": self.duration, "events": [asdict(event) for event in self.events]}
        with atomic_file(path.with_suffix(".json")) as partial:
            partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        return path


def film(
    seconds: float, seed: int, *, size: int = 128, fps: float = 12, split: Split = "all", hard: float = 1.0
) -> Film:
    """Make a film that ends with the first event to reach this length.

    Args:
        seconds: minimum length.
        seed: seeds the film; the same seed gives the same film.
        size: side of the square frames, in pixels.
        fps: frames per second.
        split, hard: see `render_clips`.

    Raises:
        ValueError: the length or the rate is out of its range.
    """
    if not (0 < seconds < 1e6 and 1 <= fps <= 1000):
        raise ValueError(f"seconds={seconds} must be above 0, and fps={fps} from 1 to 1000")
    generator = torch.Generator().manual_seed(seed)
    shots: list[_Shot] = []
    events: list[Event] = []
    frame = 0
    while frame < seconds * fps:
        for has_event in (False, True):
            seconds_drawn = float(uniform(generator, *(_EVENT_S if has_event else _PAUSE_S), 1))
            num_frames = max(1, round(seconds_drawn * fps))
            thing, action = (int(drawn) for drawn in draw_pairs(1, generator, split))
            other = int(torch.randint(0, len(SEEN_THINGS) - 1, (1,), generator=generator))
            other += other >= thing
            shot_seed = int(torch.randint(0, 1 << 62, (1,), generator=generator))
            shots.append(_Shot(num_frames, shot_seed, (thing, action, other) if has_event else None))
            if has_event:
                shown = Scene(THINGS[thing], ACTION_NAMES[action], THINGS[other] if ACTIONS[action].has_other else "")
                events.append(Event(frame / fps, (frame + num_frames) / fps, shown.caption, *shown))
            frame += num_frames
    return Film(shots, events, fps=fps, size=size, hard=hard)
