"""Start an X-CLIP for training from a CLIP, as `openxclip init` does."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from openxclip._version import __version__
from openxclip.checkpoints import CheckpointOptions, read_checkpoint
from openxclip.checkpoints.folder import atomic_model_folder
from openxclip.checkpoints.names import is_of_clip
from openxclip.conversion.converting import Conversion, check_target, convert
from openxclip.errors import CheckpointError
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11


@dataclass(frozen=True, kw_only=True)
class Initialization(Conversion):
    """A conversion of a CLIP to the folder of an untrained X-CLIP.

    Attributes:
        fresh_parameters: number of randomly initialised parameters: messages, MIT, prompts.
        resolution: side of a frame in pixels.
        seed: seed of the random initialisation.
    """

    fresh_parameters: int
    resolution: int
    seed: int


def init_from_clip(
    source: str | Path,
    out: str | Path,
    *,
    num_frames: int = 8,
    seed: int = 0,
    force: bool = False,
    **options: Unpack[CheckpointOptions],
) -> Initialization:
    """Write the folder of an X-CLIP with a CLIP's towers, as `openxclip init` does.

    The folder has the model, its processor and a model card (README.md), and is written atomically. Frames are
    normalised by ImageNet's mean and standard deviation instead of CLIP's, as in the paper's training and the released
    models.

    Args:
        source: a file, a folder or a hub id of an OpenAI, open_clip or Hugging Face CLIP with a vision transformer.
        out: folder to write.
        num_frames: T, the frames of a clip in training.
        seed: seeds the random initialisation; the same seed gives the same weights.
        force: overwrite a model in the folder; other files are kept.
        **options: `hidden_act`, `vision_heads`, `text_heads` and `HubOptions`, see
            `openxclip.checkpoints.read_checkpoint`.

    Raises:
        CheckpointError: the source can't be read or isn't such a CLIP; its vocabulary is smaller than its tokenizer's;
            or `out` exists or can't be written.
        ValueError: `num_frames` is less than 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames={num_frames}: a clip has 1 frame or more.")
    target = check_target(out, is_folder=True, force=force)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `convert` reads the checkpoint again, and puts the warnings into notes
        kind = read_checkpoint(source, **options).kind
    if kind != "clip":
        raise CheckpointError(f"{source}: is an X-CLIP already: train from it with `openxclip train … model={source}`.")
    with atomic_model_folder(target) as folder:
        conversion = convert(source, folder, num_frames=num_frames, seed=seed, **options)
        initialization = _describe(folder, target, conversion, seed)
        (folder / "README.md").write_text(_card(initialization), encoding="utf-8")
    return initialization


def _describe(folder: Path, target: Path, conversion: Conversion, seed: int) -> Initialization:
    """Load the folder, and check that the model knows every token of its tokenizer."""
    model = XCLIPModel.from_pretrained(folder)
    processor = XCLIPProcessor.from_pretrained(folder)
    known, needed = model.config.text_config.vocab_size, processor.tokenizer.vocab_size
    if known < needed:
        raise CheckpointError(
            f"{conversion.source}: its vocabulary has {known} entries, but the tokenizer {needed}: give the CLIP as a "
            "folder that has its tokenizer."
        )
    return Initialization(
        **{**vars(conversion), "target": target},
        fresh_parameters=sum(w.numel() for name, w in model.named_parameters() if not is_of_clip(name)),
        resolution=model.config.vision_config.image_size,
        seed=seed,
    )


def _card(init: Initialization) -> str:
    fresh, total = init.fresh_parameters / 1e6, init.parameters / 1e6
    return f"""---
library_name: openxclip
tags:
- video-classification
- x-clip
---

# An untrained X-CLIP

**Not trained yet.** The weights of both towers are those of the CLIP `{init.source}` ({init.format}), unchanged. The
other parts of X-CLIP ([arXiv 2208.02816](https://arxiv.org/abs/2208.02816)), the messages between frames, the
multi-frame integration transformer and the video-specific prompts, are initialised at random with seed {init.seed}:
{fresh:.1f} M of {total:.1f} M parameters.

- Clips: {init.frames} frames of {init.resolution} × {init.resolution} pixels.
- Frames are normalised by ImageNet's mean and standard deviation instead of CLIP's, as in the paper's training and the
  released X-CLIPs.
- The licence of the weights is the CLIP's.

Made by `openxclip init` (openxclip {__version__}). Train it with `openxclip train`.
"""
