"""Clips for the tests of the page: two actions, and files that browsers can't play or nobody can read."""

from __future__ import annotations

from pathlib import Path

import av


def write_actions(folder: Path, actions: dict[str, str], each: int) -> None:
    """Write `each` clips of every action, named by its key: spin-0.mp4 and so on."""
    import torch

    from openxclip.playground import export_clip, render_clips
    from openxclip.playground.world import ACTION_NAMES

    for seed, (name, action) in enumerate(actions.items()):
        clips = render_clips(
            each,
            seed,
            size=96,
            num_frames=24,
            hard=0.0,
            empty=0.0,
            things=torch.arange(each),
            actions=torch.full((each,), ACTION_NAMES.index(action)),
        )
        for number in range(each):
            export_clip(clips.frames[number], folder / f"{name}-{number}.mp4", fps=12)


def write_avi(source: Path, out: Path) -> Path:
    """Write a video again as MPEG-4 part 2 in AVI, which no browser plays."""
    with av.open(str(source)) as given, av.open(str(out), "w") as made:
        pictures = given.streams.video[0]
        stream = made.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = pictures.width, pictures.height, "yuv420p"
        for frame in given.decode(pictures):
            made.mux(stream.encode(frame.reformat(format="yuv420p")))
        made.mux(stream.encode())
    return out
