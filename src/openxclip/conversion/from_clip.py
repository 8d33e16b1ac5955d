"""A model folder to be trained, started from a CLIP: what `openxclip init` does."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openxclip._version import __version__
from openxclip.checkpoints import read_checkpoint
from openxclip.checkpoints.folder import atomic_model_folder
from openxclip.checkpoints.names import is_of_clip
from openxclip.common.files import cannot_write, checked_folder, target_path
from openxclip.conversion.converting import Conversion, convert
from openxclip.errors import CheckpointError
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor


@dataclass(frozen=True)
class Initialization:
    """The folder that was written.

    Attributes:
        source: the CLIP.
        path: of the folder.
        format: of the source: see `openxclip.checkpoints.Checkpoint`.
        parameters: of the whole X-CLIP.
        fresh_parameters: of them, those that start at random: messages, MIT, prompts.
        frames: of a clip.
        resolution: pixels of a frame's side.
        seed: of the random start.
        notes: what its user should know.
    """

    source: str
    path: Path
    format: str
    parameters: int
    fresh_parameters: int
    frames: int
    resolution: int
    seed: int
    notes: tuple[str, ...] = ()


def init_from_clip(
    source: str | Path,
    out: str | Path,
    *,
    num_frames: int = 8,
    seed: int = 0,
    hidden_act: str | None = None,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    force: bool = False,
    **hub_options: Any,
) -> Initialization:
    """Write a whole X-CLIP folder whose towers are a CLIP's; the twin of `openxclip init`.

    The folder has the model, its processor and a card (README.md), and appears whole or not at all. Frames are
    normalised by ImageNet's mean and standard deviation, not CLIP's: so the paper trains, and so the released models
    expect them.

    Args:
        source: of an OpenAI, open_clip or Hugging Face CLIP with a vision transformer: a file, a folder or a hub id.
        out: the folder.
        num_frames: T of the clips that it will be trained with.
        seed: of what starts at random; the same seed gives the same weights.
        hidden_act, vision_heads, text_heads: see `openxclip.checkpoints.read_checkpoint`.
        force: write over what is there; other files in the folder are left alone.
        **hub_options: see `openxclip.hub.resolve_folder`.

    Raises:
        CheckpointError: the source can't be read or is no such CLIP, its vocabulary isn't its tokenizer's, or `out` is
            there already or can't be written.
        ValueError: `num_frames` is less than 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}: a clip has 1 frame or more.")
    target = _checked_target(out, force)
    said: dict[str, Any] = {"hidden_act": hidden_act, "vision_heads": vision_heads, "text_heads": text_heads}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `convert` reads it once more, and notes them
        kind = read_checkpoint(source, **said, **hub_options).kind
    if kind != "clip":
        raise CheckpointError(f"{source}: is an X-CLIP already: train from it with `openxclip train … model={source}`.")
    with atomic_model_folder(target) as folder:
        converted = convert(source, folder, num_frames=num_frames, seed=seed, **said, **hub_options)
        done = _looked_at(folder, target, converted, seed)
        (folder / "README.md").write_text(_card(done), encoding="utf-8")
    return done


def _checked_target(named: str | Path, force: bool) -> Path:
    """Where to write: of a link, where it leads."""
    try:
        target = target_path(named)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    try:
        target = target.resolve() if target.is_symlink() else target
        if target.exists() and not target.is_dir():
            raise CheckpointError(f"{target}: is not a folder, but a model is one: choose another place.")
        there = target.is_dir() and any(target.iterdir())
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(cannot_write(target, error)) from error
    except RuntimeError as error:  # what Python before 3.13 makes of a link to itself
        raise CheckpointError(f"{target}: can't be written: it is a link to itself.") from error
    if there and not force:
        raise CheckpointError(f"{target}: is there already: choose another place, or write over it with --force.")
    try:
        checked_folder(target, of_model=True)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return target


def _looked_at(folder: Path, target: Path, converted: Conversion, seed: int) -> Initialization:
    model = XCLIPModel.from_pretrained(folder)
    processor = XCLIPProcessor.from_pretrained(folder)
    known, needed = model.config.text_config.vocab_size, processor.tokenizer.vocab_size
    if known < needed:
        raise CheckpointError(
            f"{converted.source}: its vocabulary has {known} entries, but the tokenizer {needed}: give the CLIP as a "
            "folder with a tokenizer of its own."
        )
    return Initialization(
        source=converted.source,
        path=target,
        format=converted.format,
        parameters=converted.parameters,
        fresh_parameters=sum(w.numel() for name, w in model.named_parameters() if not is_of_clip(name)),
        frames=converted.frames,
        resolution=model.config.vision_config.image_size,
        seed=seed,
        notes=converted.notes,
    )


def _card(done: Initialization) -> str:
    fresh, whole = done.fresh_parameters / 1e6, done.parameters / 1e6
    return f"""---
library_name: openxclip
tags:
- video-classification
- x-clip
---

# An X-CLIP to be trained

**Not trained yet.** Its towers are those of the CLIP `{done.source}` ({done.format}), number for number. What X-CLIP
([arXiv 2208.02816](https://arxiv.org/abs/2208.02816)) has beyond them starts at random, with seed {done.seed}: the
messages between frames, the multi-frame integration transformer and the video-specific prompts, {fresh:.1f} M of
{whole:.1f} M parameters.

- Clips: {done.frames} frames of {done.resolution} × {done.resolution} pixels.
- Frames are normalised by ImageNet's mean and standard deviation, not CLIP's: so the paper trains, and so the released
  X-CLIPs expect them.
- The licence of the weights is the CLIP's.

Made by `openxclip init` (openxclip {__version__}). Train it with `openxclip train`.
"""
