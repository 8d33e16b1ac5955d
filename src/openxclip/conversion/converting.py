"""Weights from one format to another: what `openxclip convert` does."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from openxclip import checkpoints, hub
from openxclip.checkpoints.folder import atomic_model_folder
from openxclip.checkpoints.formats import CONFIG_NAME, KEPT_TEXTS
from openxclip.common.files import cannot_write, checked_folder, checked_target, target_path
from openxclip.config import XCLIPConfig
from openxclip.errors import CheckpointError
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.processing.tokenizer import TOKENIZER_FILES

Target = Literal["hub", "authors"]


@dataclass(frozen=True)
class Conversion:
    """What was done.

    Attributes:
        source, target: from where to where.
        kind, format: of the source: see `openxclip.checkpoints.Checkpoint`.
        parameters: of the X-CLIP that was written.
        frames: of its clips.
        notes: what its user should know.
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
    **hub_options: Any,
) -> Conversion:
    """Write the weights of an X-CLIP in another format; of a CLIP, the X-CLIP that training starts from.

    The numbers stay as they are, bit for bit. From the hub's format to the authors' and back gives the same files.

    Args:
        source: what `openxclip.checkpoints.read_checkpoint` reads.
        target: a folder for "hub", a file for "authors". It appears whole or not at all.
        to: "hub" writes a folder that this package and transformers load, "authors" a `.pth` that the authors' code
            loads.
        num_frames: T of the X-CLIP that starts from a CLIP; default 8.
        hidden_act, vision_heads, text_heads: see `openxclip.checkpoints.read_checkpoint`.
        seed: of what starts at random in an X-CLIP from a CLIP.
        force: write over what is there. In a folder, other files are left alone.
        **hub_options: see `openxclip.hub.resolve_folder`.

    Raises:
        CheckpointError: the source can't be read, or the target is there already or can't be written.
        ValueError: an argument that can't be.
    """
    if to not in ("hub", "authors"):
        raise ValueError(f"to={to!r}: choose hub or authors.")
    target = _checked_target(target, to, force)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = checkpoints.read_checkpoint(
            source, hidden_act=hidden_act, vision_heads=vision_heads, text_heads=text_heads, **hub_options
        )
    notes = [str(warning.message) for warning in caught]
    if found.kind == "clip":
        model = XCLIPModel.from_clip(
            source,
            num_frames=num_frames or 8,
            hidden_act=found.config["vision_config"]["hidden_act"],
            vision_heads=found.config["vision_config"]["num_attention_heads"],
            text_heads=found.config["text_config"]["num_attention_heads"],
            seed=seed,
            **hub_options,
        )
        notes.append("messages, MIT and prompts are untrained: this is where training starts")
    else:
        if found.format == "hub" and {hidden_act, vision_heads, text_heads} != {None}:
            raise ValueError(
                "activation and heads are for files that don't have them: this model's config.json has them."
            )
        if num_frames is not None:
            raise ValueError(
                "the number of frames is for a CLIP; an X-CLIP keeps the one that it was trained with (the model takes "
                "clips of any number)."
            )
        model = _as_stored(found)
    texts = _texts(found, model)
    if to == "hub":
        processor = processor_of(source, found, model.config, hub_options)
        _write_folder(target, model, processor, texts)
    else:
        notes += _told_to_authors(model.config)
        checkpoints.save_authors_file(model.state_dict(), target, texts=texts)
    frames = model.config.vision_config.num_frames
    return Conversion(str(source), target, found.kind, found.format, model.num_parameters(), frames, tuple(notes))


def _checked_target(named: str | Path, to: Target, force: bool) -> Path:
    """Where to write: of a link, where it leads."""
    try:
        target = target_path(named)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    try:
        target = target.resolve() if target.is_symlink() else target
        is_special = target.exists() and not (target.is_file() or target.is_dir())
        there = any(target.iterdir()) if target.is_dir() else target.exists()
    except OSError as error:
        raise CheckpointError(cannot_write(target, error)) from error
    except RuntimeError as error:  # what Python before 3.13 makes of a link to itself
        raise CheckpointError(f"{target}: can't be written: it is a link to itself.") from error
    if is_special:
        raise CheckpointError(f"{target}: is a device or pipe, not a file or folder: choose another place.")
    if to == "hub" and target.exists() and not target.is_dir():
        raise CheckpointError(f"{target}: is a file, but the hub's format is a folder.")
    if to == "authors" and target.is_dir():
        raise CheckpointError(f"{target}: is a folder, but the authors' format is a file, such as {target / 'x.pth'}.")
    if there and not force:
        raise CheckpointError(f"{target}: is there already: choose another place, or write over it with --force.")
    try:
        if to == "hub" or not target.absolute().parent.is_dir():  # which will be made
            checked_folder(target if to == "hub" else target.parent, of_model=to == "hub")
        else:
            checked_target(target)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    return target


def _as_stored(found: checkpoints.Checkpoint) -> XCLIPModel:
    """The model with the very tensors, checked against its configuration."""
    config = cast(XCLIPConfig, XCLIPModel.config_of(found))
    return XCLIPModel.from_state(config, found.tensors, found.source)


def _texts(found: checkpoints.Checkpoint, model: XCLIPModel) -> dict[str, str]:
    """config.json and preprocessor_config.json: the source's own, to the byte, where it has them."""
    texts = {name: text for name, text in found.texts.items() if found.kind == "xclip"}
    if CONFIG_NAME not in texts:
        written = XCLIPConfig.from_dict(model.config.to_dict())
        written.architectures = ["XCLIPModel"]
        written.dtype = str(model.dtype).removeprefix("torch.")
        texts[CONFIG_NAME] = written.to_json_string()
    return texts


def processor_of(
    source: str | Path, found: checkpoints.Checkpoint, config: XCLIPConfig, hub_options: dict[str, Any]
) -> XCLIPProcessor:
    """The processor of a checkpoint: its own, or that of the released models at its resolution.

    Args:
        source: where the checkpoint was found.
        found: what was read there.
        config: of the X-CLIP that is made of it.
        hub_options: see `openxclip.hub.resolve_folder`.
    """
    if found.format == "hub" and hub.existing_file(source) is None:
        with contextlib.suppress(CheckpointError):  # a folder of weights alone
            return XCLIPProcessor.from_pretrained(source, **hub_options)
    if found.kind == "xclip" and hub.existing_file(source) is not None:
        return XCLIPProcessor.from_pretrained(source)
    from openxclip.processing import CLIPTokenizer, VideoProcessor

    size = config.vision_config.image_size
    tokenizer = None
    if found.format == "huggingface_clip" and hub.existing_file(source) is None:
        tokenizer = CLIPTokenizer.from_pretrained(
            hub.resolve_folder(source, **hub_options, allow_patterns=TOKENIZER_FILES)
        )
    return XCLIPProcessor(VideoProcessor(size=size, crop_size=size), tokenizer)


def _write_folder(target: Path, model: XCLIPModel, processor: XCLIPProcessor, texts: dict[str, str]) -> None:
    with atomic_model_folder(target) as folder:
        checkpoints.save_state_dict(model.state_dict(), folder)
        processor.save_pretrained(folder)
        for name in KEPT_TEXTS:
            if name in texts:
                (folder / name).write_text(texts[name], encoding="utf-8", newline="")


def _told_to_authors(config: XCLIPConfig) -> list[str]:
    """Where the authors' code would compute something else with the same weights."""
    vision, notes = config.vision_config, []
    heads = max(1, config.projection_dim // 64)
    if (vision.mit_num_attention_heads, config.prompt_num_attention_heads) != (heads, heads):
        notes.append(
            f"the authors' code has {heads} heads in MIT and prompts at a joint width of {config.projection_dim}, this "
            f"model {vision.mit_num_attention_heads} and {config.prompt_num_attention_heads}: scores will differ there"
        )
    if {vision.hidden_act, config.text_config.hidden_act, config.prompt_hidden_act} != {"quick_gelu"}:
        notes.append("the authors' code has QuickGELU everywhere, this model hasn't: scores will differ there")
    return notes
