"""Convert weights from one format to another, as `openxclip convert` does."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from openxclip import checkpoints, hub
from openxclip.checkpoints.folder import atomic_model_folder
from openxclip.checkpoints.formats import KEPT_TEXTS
from openxclip.common.files import cannot_write, checked_folder, checked_target, resolve_target
from openxclip.config import CONFIG_NAME, XCLIPConfig
from openxclip.errors import CheckpointError
from openxclip.model import XCLIPModel
from openxclip.processing import CLIPTokenizer, VideoProcessor, XCLIPProcessor
from openxclip.processing.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11

Target = Literal["hub", "authors"]


@dataclass(frozen=True)
class Conversion:
    """A finished conversion.

    Attributes:
        source: name or path of the checkpoint that was read.
        target: path that was written.
        kind, format: kind and format of the source, see `openxclip.checkpoints.Checkpoint`.
        parameters: number of parameters of the X-CLIP that was written.
        frames: T, the frames of a clip.
        notes: warnings for the user.
    """

    source: str
    target: Path
    kind: str
    format: str
    parameters: int
    frames: int
    notes: tuple[str, ...] = ()


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: Target = "hub",
    num_frames: int | None = None,
    hidden_act: str | None = None,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    seed: int = 0,
    force: bool = False,
    **hub_options: Unpack[hub.HubOptions],
) -> Conversion:
    """Write an X-CLIP in another format. A CLIP is converted to an untrained X-CLIP with its towers.

    The weights stay the same, bit for bit. Converting from the hub's format to the authors' and back gives the same
    files.

    Args:
        source: a name or path that `openxclip.checkpoints.read_checkpoint` reads.
        target: a folder for "hub", a file for "authors"; it is written atomically.
        to: "hub" writes a folder that this package and transformers load, "authors" a `.pth` that the authors' code
            loads.
        num_frames: T of the X-CLIP if the source is a CLIP; default 8.
        hidden_act, vision_heads, text_heads: see `openxclip.checkpoints.read_checkpoint`.
        seed: seeds the random initialisation if the source is a CLIP.
        force: overwrite the target. Other files in a folder are kept.
        **hub_options: see `openxclip.hub.HubOptions`.

    Raises:
        CheckpointError: the source can't be read, or the target exists or can't be written.
        ValueError: an argument has an unsupported value or doesn't apply to this source.

    Examples:
        >>> import openxclip
        >>> done = openxclip.convert("mini", "mini.pth", to="authors")
    """
    if to not in ("hub", "authors"):
        raise ValueError(f"to={to!r}: choose hub or authors.")
    target = check_target(target, is_folder=to == "hub", force=force)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checkpoint = checkpoints.read_checkpoint(
            source, hidden_act=hidden_act, vision_heads=vision_heads, text_heads=text_heads, **hub_options
        )
    notes = [str(warning.message) for warning in caught]
    if checkpoint.kind == "clip":
        vision, text = checkpoint.config["vision_config"], checkpoint.config["text_config"]
        model = XCLIPModel.from_clip(
            source,
            num_frames=num_frames or 8,
            hidden_act=vision["hidden_act"],
            vision_heads=vision["num_attention_heads"],
            text_heads=text["num_attention_heads"],
            seed=seed,
            **hub_options,
        )
        notes.append("messages, MIT and prompts are untrained: train this model before use")
    else:
        if checkpoint.format == "hub" and (hidden_act, vision_heads, text_heads) != (None, None, None):
            raise ValueError(
                "activation and heads can be given only for files that lack them: this model's config.json has them."
            )
        if num_frames is not None:
            raise ValueError(
                "the number of frames can be given only for a CLIP; an X-CLIP keeps the number that it was trained "
                "with (and accepts clips with any number of frames)."
            )
        config = checkpoints.config_in(checkpoint, XCLIPConfig)
        model = XCLIPModel.from_state(config, checkpoint.tensors, checkpoint.source)
    texts = dict(checkpoint.texts) if checkpoint.kind == "xclip" else {}  # the source's own, to the byte
    if CONFIG_NAME not in texts:
        texts[CONFIG_NAME] = model.config_to_save().to_json_string()
    if to == "hub":
        processor = load_processor(source, checkpoint, model.config, **hub_options)
        _write_folder(target, model, processor, texts)
    else:
        notes += _differences_from_authors(model.config)
        checkpoints.save_authors_file(model.state_dict(), target, texts=texts)
    frames = model.config.vision_config.num_frames
    return Conversion(
        str(source), target, checkpoint.kind, checkpoint.format, model.num_parameters(), frames, tuple(notes)
    )


def check_target(path: str | Path, *, is_folder: bool, force: bool) -> Path:
    """Return the path to write, with a link resolved, after checking that it can be written.

    Args:
        path: path of a model's folder or of a file.
        is_folder: whether a folder is written.
        force: allow a file, or a folder with files in it, to be overwritten.

    Raises:
        CheckpointError: the target exists without `force`, is not a folder or file as expected, or can't be written.
    """
    try:
        target = resolve_target(path)
        exists = any(target.iterdir()) if target.is_dir() else target.exists()
    except OSError as error:
        raise CheckpointError(cannot_write(path, error)) from error
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if is_folder and exists and not target.is_dir():
        raise CheckpointError(f"{target}: is a file, but this model needs a folder: choose another place.")
    if not is_folder and target.is_dir():
        raise CheckpointError(f"{target}: is a folder, but the authors' format is a file, such as {target / 'x.pth'}.")
    if exists and not force:
        raise CheckpointError(
            f"{target}: exists already: choose another place, or overwrite it with force=True (--force)."
        )
    try:
        if is_folder:
            checked_folder(target, of_model=True)
        elif target.absolute().parent.is_dir():
            checked_target(target)
        else:  # the folder will be created
            checked_folder(target.parent)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return target


def load_processor(
    source: str | Path,
    checkpoint: checkpoints.Checkpoint,
    config: XCLIPConfig,
    **hub_options: Unpack[hub.HubOptions],
) -> XCLIPProcessor:
    """Load a checkpoint's own processor, or make the released models' processor at its resolution.

    Args:
        source: name or path of the checkpoint.
        checkpoint: the checkpoint.
        config: config of the X-CLIP that is made from it.
        **hub_options: see `openxclip.hub.HubOptions`.
    """
    is_file = hub.existing_file(source) is not None
    if checkpoint.format == "hub" and not is_file:
        with contextlib.suppress(CheckpointError):  # a folder without a processor
            return XCLIPProcessor.from_pretrained(source, **hub_options)
    if checkpoint.kind == "xclip" and is_file:
        return XCLIPProcessor.from_pretrained(source)
    size = config.vision_config.image_size
    tokenizer = None
    if checkpoint.format == "huggingface_clip" and not is_file:
        folder = hub.resolve_folder(source, **hub_options, allow_patterns=TOKENIZER_FILES)
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    return XCLIPProcessor(VideoProcessor(size=size, crop_size=size), tokenizer)


def _write_folder(target: Path, model: XCLIPModel, processor: XCLIPProcessor, texts: dict[str, str]) -> None:
    with atomic_model_folder(target) as folder:
        checkpoints.save_state_dict(model.state_dict(), folder)
        processor.save_pretrained(folder)
        for name in KEPT_TEXTS:
            if name in texts:
                (folder / name).write_text(texts[name], encoding="utf-8", newline="")


def _differences_from_authors(config: XCLIPConfig) -> list[str]:
    """Return notes on why the authors' code would compute other scores with the same weights."""
    vision, notes = config.vision_config, []
    heads = config.authors_heads
    if (vision.mit_num_attention_heads, config.prompt_num_attention_heads) != (heads, heads):
        notes.append(
            f"the authors' code has {heads} heads in MIT and prompts at a joint width of {config.projection_dim}, this "
            f"model {vision.mit_num_attention_heads} and {config.prompt_num_attention_heads}: scores will differ there"
        )
    if {vision.hidden_act, config.text_config.hidden_act, config.prompt_hidden_act} != {"quick_gelu"}:
        notes.append("the authors' code has QuickGELU everywhere, this model doesn't: scores will differ there")
    return notes
