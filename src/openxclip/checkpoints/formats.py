"""Weights of any known origin, as an X-CLIP's: under the hub's names, with the configuration they are of.

| format | what it is |
|---|---|
| `hub` | a folder of X-CLIP as on the Hugging Face hub, or its weights file alone |
| `authors` | a `.pth` of X-CLIP's authors (training checkpoint or bare weights), or of `openxclip convert` |
| `openai` | OpenAI's CLIP: a TorchScript archive or its state dict |
| `open_clip` | a CLIP of open_clip: hub folder, training checkpoint, or state dict |
| `huggingface_clip` | a folder of CLIP as on the Hugging Face hub, or its weights file alone |
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openxclip import hub
from openxclip.checkpoints import names, shapes
from openxclip.checkpoints.clips import is_in_openais_order, take_from_hugging_face, take_from_open_clip
from openxclip.checkpoints.files import WeightsFile, read_weights_file
from openxclip.checkpoints.folder import find_weights
from openxclip.checkpoints.pickled import Stored
from openxclip.common.files import cannot_read
from openxclip.config import XCLIPTextConfig, XCLIPVisionConfig
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

Format = Literal["hub", "authors", "openai", "open_clip", "huggingface_clip"]
CONFIG_NAME = "config.json"
OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OWN_FILES = "openxclip"  # key of the texts that `convert` puts into a .pth, so that the way back is exact
KEPT_TEXTS = (CONFIG_NAME, "preprocessor_config.json")


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what is known of them.

    Attributes:
        kind: "xclip", or "clip", which has no messages, MIT and prompts.
        format: where it is from.
        config: fields of an XCLIPConfig; of a CLIP, without those of MIT, prompts and frames.
        source: the file or folder.
        stored: what is in the file, by the name there.
        moves: where each goes.
        texts: files that belong to it, by name, as text: config.json and preprocessor_config.json where they are known.
        info: what else the file says: epoch, max_accuracy, name, and settings, a training configuration.
        files: that the weights lie in.
    """

    kind: Literal["xclip", "clip"]
    format: Format
    config: dict[str, Any]
    source: Path
    stored: Mapping[str, Stored] = field(repr=False)
    moves: tuple[names.Move, ...] = field(repr=False)
    texts: dict[str, str] = field(default_factory=dict, repr=False)
    info: dict[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The weights under the hub's names of X-CLIP, mapped from the file."""
        made: dict[str, Tensor] = {}
        for move in self.moves:
            made.update(names.moved(self.stored[move.source].load(), move))
        if "logit_scale" in made:
            if made["logit_scale"].numel() != 1:
                raise CheckpointError(f"{self.source}: its logit_scale is {tuple(made['logit_scale'].shape)}, not one.")
            made["logit_scale"] = made["logit_scale"].reshape(())  # open_clip also writes it as a list of one
        return made

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The sizes of `tensors`, without reading them."""
        return _shapes(self.stored, self.moves)

    @property
    def num_parameters(self) -> int:
        """How many numbers the weights are."""
        return sum(math.prod(self.stored[move.source].shape) for move in self.moves)

    @property
    def dtype(self) -> str:
        """The type of most of the weights' numbers, such as "float32"."""
        counts: dict[str, int] = {}
        for move in self.moves:
            stored = self.stored[move.source]
            counts[stored.dtype] = counts.get(stored.dtype, 0) + math.prod(stored.shape)
        return max(counts, key=lambda dtype: counts[dtype])


def read_checkpoint(
    name_or_path: str | Path,
    *,
    hidden_act: str | None = None,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    **hub_options: Any,
) -> Checkpoint:
    """The weights of an X-CLIP or a CLIP, whoever wrote them. Nothing of a pickle in them is run.

    Args:
        name_or_path: a file (.pth, .pt, .bin, .safetensors), a folder, a hub id or the shipped `"mini"`.
        hidden_act: the activation in the towers, "quick_gelu" or "gelu", where the file doesn't tell: OpenAI's weights,
            and those that open_clip names "quickgelu", were trained with the first, other CLIPs with the second, which
            is taken, with a warning, if it isn't said.
        vision_heads, text_heads: attention heads, where they aren't what the tower's width tells (see `shapes`).
        **hub_options: see `openxclip.hub.resolve_folder`.

    Raises:
        CheckpointError: nothing there, damaged or refused; or weights of something else, which is named.
    """
    said = {"vision_heads": vision_heads, "text_heads": text_heads}
    file = hub.existing_file(name_or_path)
    if file is not None:
        return _from_file(read_weights_file(file), hidden_act, said)
    folder = hub.resolve_folder(name_or_path, **hub_options, allow_patterns=[*KEPT_TEXTS, OPEN_CLIP_CONFIG])
    if (folder / CONFIG_NAME).is_file():
        model_type = hub.read_json(folder / CONFIG_NAME).get("model_type")
        if model_type in ("xclip", "clip") or not (folder / OPEN_CLIP_CONFIG).is_file():
            return _from_folder(name_or_path, folder, model_type, hidden_act, said, hub_options)
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return _from_open_clip_folder(name_or_path, folder, hidden_act, said, hub_options)
    raise CheckpointError(
        f"{folder}: no {CONFIG_NAME} or {OPEN_CLIP_CONFIG} in this folder (it holds {hub.content_of(folder)})."
    )


# ---------------------------------------------------------------------------------------------------- folders


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: is not text in UTF-8.") from error


def _from_folder(
    name: str | Path,
    folder: Path,
    model_type: Any,
    hidden_act: str | None,
    said: dict[str, int | None],
    hub_options: dict[str, Any],
) -> Checkpoint:
    if model_type not in ("xclip", "clip"):
        raise CheckpointError(f"{folder / CONFIG_NAME}: model_type is {model_type!r}; xclip and clip are read.")
    values = hub.read_json(folder / CONFIG_NAME)
    source, files = find_weights(name, **hub_options)
    stored: dict[str, Stored] = {}
    for path in files:
        stored.update(read_weights_file(path).stored)
    texts = {name: _text(folder / name) for name in KEPT_TEXTS if (folder / name).is_file()}
    if model_type == "clip":
        moves = _moves(stored, source, "huggingface_clip")
        config = _config(_shapes(stored, moves), source, "gelu", said)  # shapes, for all that the file may leave unsaid
        take_from_hugging_face(config, values, hidden_act, source=folder / CONFIG_NAME)
        _check_towers(config, folder / CONFIG_NAME)
        texts.pop(CONFIG_NAME)
        return Checkpoint("clip", "huggingface_clip", config, source, stored, tuple(moves), texts, files=tuple(files))
    moves = _moves(stored, source, "hub")
    return Checkpoint("xclip", "hub", values, source, stored, tuple(moves), texts, files=tuple(files))


def _from_open_clip_folder(
    name: str | Path,
    folder: Path,
    hidden_act: str | None,
    said: dict[str, int | None],
    hub_options: dict[str, Any],
) -> Checkpoint:
    told = hub.read_json(folder / OPEN_CLIP_CONFIG).get("model_cfg")
    if not isinstance(told, dict) or not all(isinstance(told.get(f"{t}_cfg"), dict) for t in ("vision", "text")):
        raise CheckpointError(f"{folder / OPEN_CLIP_CONFIG}: no configuration of a CLIP's two towers.")
    weights = None
    for candidate in OPEN_CLIP_WEIGHTS:
        found = hub.resolve_folder(name, **hub_options, allow_patterns=[candidate]) / candidate
        if found.is_file():
            weights = found
            break
    if weights is None:
        raise CheckpointError(f"{folder}: no {' or '.join(OPEN_CLIP_WEIGHTS)} beside its {OPEN_CLIP_CONFIG}.")
    vision, text = told["vision_cfg"], told["text_cfg"]
    heads = dict(said)
    numbers = [vision.get("head_width", 1), vision.get("width", 768), text.get("heads", 1)]
    if not all(type(number) is int and 0 < number < 1 << 20 for number in numbers):
        raise CheckpointError(f"{folder / OPEN_CLIP_CONFIG}: widths and heads must be whole numbers above 0.")
    if heads["vision_heads"] is None and "head_width" in vision:
        heads["vision_heads"] = max(1, vision.get("width", 768) // vision["head_width"])
    if heads["text_heads"] is None and "heads" in text:
        heads["text_heads"] = text["heads"]
    activation = hidden_act or ("quick_gelu" if told.get("quick_gelu") else "gelu")
    checkpoint = _from_file(read_weights_file(weights), activation, heads, origin="open_clip")
    take_from_open_clip(checkpoint.config, told, hidden_act, source=folder / OPEN_CLIP_CONFIG)
    _check_towers(checkpoint.config, folder / OPEN_CLIP_CONFIG)
    return checkpoint


# ---------------------------------------------------------------------------------------------------- files


def _from_file(
    file: WeightsFile, hidden_act: str | None, said: dict[str, int | None], *, origin: Format | None = None
) -> Checkpoint:
    found: Format = recognised(file.stored, file.path)
    moves = _moves(file.stored, file.path, found)
    kept = file.extra.get(OWN_FILES)
    texts = {n: kept[n] for n in KEPT_TEXTS if isinstance(kept.get(n), str)} if isinstance(kept, dict) else {}
    info: dict[str, Any] = {
        key: file.extra[key] for key in ("epoch", "max_accuracy", "name", "settings") if key in file.extra
    }
    by_shape = _shapes(file.stored, moves)
    if "mit.position_embedding" in by_shape:
        config = _config(by_shape, file.path, hidden_act or "quick_gelu", said)
        if found == "authors" and CONFIG_NAME in texts:
            config = _parsed(texts[CONFIG_NAME], file.path)
        return Checkpoint("xclip", found, config, file.path, file.stored, tuple(moves), texts, info, (file.path,))
    if found == "authors":  # of the authors' names, but a CLIP: whose?
        found = origin or ("openai" if _is_openai(file) else "open_clip")
    if found == "open_clip" and origin is None and file.is_bare and is_in_openais_order(file.stored):
        found = "openai"
        if hidden_act is None:
            _warn_of_openai(file.path)
    hidden_act = hidden_act or ("quick_gelu" if found == "openai" else _assumed_activation(file))
    config = _config(by_shape, file.path, hidden_act, said)
    return Checkpoint("clip", found, config, file.path, file.stored, tuple(moves), texts, info, (file.path,))


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the {CONFIG_NAME} in it can't be read ({error}).") from error
    if not isinstance(values, dict) or values.get("model_type") != "xclip":
        raise CheckpointError(f"{path}: the {CONFIG_NAME} in it is not an X-CLIP's.")
    return values


def _is_openai(file: WeightsFile) -> bool:
    """OpenAI's archives have three sizes among their tensors, which no other CLIP has."""
    return {"input_resolution", "context_length", "vocab_size"} <= set(names.without_wrappers(file.stored).values())


def _warn_of_openai(path: Path) -> None:
    warnings.warn(
        f"{path}: its tensors come in the order of OpenAI's class, so QuickGELU is assumed; for weights of an early "
        "open_clip (2021) that were trained with GELU give --activation gelu.",
        stacklevel=6,
    )


def _assumed_activation(file: WeightsFile) -> str:
    label = f"{file.path.name} {file.extra.get('name', '')}".lower().replace("_", "").replace("-", "")
    if "quickgelu" in label or "openai" in label:
        return "quick_gelu"
    warnings.warn(
        f"{file.path}: nothing in it tells the activation, so GELU is assumed, as in open_clip's own models; for "
        'weights trained with QuickGELU (OpenAI\'s, and those whose name has "quickgelu") give '
        "--activation quick_gelu.",
        stacklevel=5,
    )
    return "gelu"


def _config(
    by_shape: dict[str, tuple[int, ...]], source: Path, hidden_act: str, said: dict[str, int | None]
) -> dict[str, Any]:
    try:
        config = shapes.config_of(by_shape, hidden_act=hidden_act, **said)
    except shapes.UnclearError as error:
        raise CheckpointError(f"{source}: {error}.") from error
    _check_towers(config, source)
    return config


def _check_towers(config: dict[str, Any], source: Path) -> None:
    """Refuse what no two towers can be: heads that don't divide a width, a number that is a text."""
    try:
        XCLIPTextConfig.from_dict(config["text_config"])
        XCLIPVisionConfig.from_dict(config["vision_config"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from error


# ---------------------------------------------------------------------------------------------------- names

# What isn't an X-CLIP or a CLIP that one can start from, by a name that only it has.
_OTHERS = (
    ("logit_bias", "a SigLIP (sigmoid loss, another text tower)"),
    ("vision_model.head.", "a SigLIP (pooled by attention)"),
    ("text_decoder.", "a CoCa (it writes captions)"),
    ("visual.attn_pool.", "a CLIP that pools by attention (CoCa, or like it)"),
    ("visual.attnpool.", "a CLIP with a ResNet as its vision tower"),
    ("visual.trunk.", "a CLIP with a vision tower of timm"),
    ("visual.transformer.resblocks.0.ls_1.", "a CLIP with LayerScale"),
    ("visual.transformer.stages.", "a CLIP with a ConvNet as its vision tower"),
    ("visual.blocks.", "an EVA-CLIP"),
    ("text.transformer.encoder.", "a CLIP with a text tower of transformers"),
    ("text.transformer.embeddings.", "a CLIP with a text tower of transformers"),
    ("text.cls_emb", "a CLIP whose text is pooled by a class token (CoCa)"),
    ("text.text_projection.weight", "a CLIP with a text projection that has a bias"),
)

_PARTS = (
    ("visual.class_embedding", "CLIP's vision tower"),
    ("vision_model.embeddings.class_embedding", "CLIP's vision tower"),
    ("class_embedding", "a vision tower"),
    ("token_embedding.weight", "CLIP's text tower"),
    ("text_model.embeddings.token_embedding.weight", "CLIP's text tower"),
)


def recognised(stored: Mapping[str, Stored], source: Path) -> Literal["hub", "huggingface_clip", "authors"]:
    """Whose names these are; "authors" stands for OpenAI's and open_clip's too.

    Raises:
        CheckpointError: they are those of another model, which is named if it is known.
    """
    bare = set(names.without_wrappers(stored).values())
    for sign, what in _OTHERS:
        if any(name == sign or name.startswith(sign) for name in bare):
            raise CheckpointError(
                f"{source}: is {what}; X-CLIP starts from a CLIP with a plain vision transformer and CLIP's text tower."
            )
    if "text_model.embeddings.token_embedding.weight" in bare and any(n.startswith("vision_model.") for n in bare):
        return "hub" if "mit.position_embedding" in bare else "huggingface_clip"
    text = {"token_embedding.weight", "text.token_embedding.weight"} & bare
    if text and "visual.conv1.weight" in bare and "visual.class_embedding" in bare:
        return "authors"
    for name, what in _PARTS:
        if name in bare:
            raise CheckpointError(f"{source}: is {what} alone; a whole X-CLIP or CLIP is needed.")
    held = ", ".join(sorted(bare)[:3])[:200] or "no tensors"
    raise CheckpointError(f"{source}: neither an X-CLIP nor a CLIP by the names in it ({held}, …).")


def _moves(stored: Mapping[str, Stored], source: Path, found: str) -> list[names.Move]:
    bare = {full: name for full, name in names.without_wrappers(stored).items() if not names.is_no_weight(name)}
    strange = next((full for full in bare if "float" not in stored[full].dtype), None)
    if strange is not None:
        raise CheckpointError(f"{source}: its {strange} is of {stored[strange].dtype}: quantised weights aren't read.")
    if found in ("hub", "huggingface_clip"):
        rename = names.as_xclip if found == "huggingface_clip" else str
        return [names.Move(full, (rename(name),), False) for full, name in bare.items()]
    if "text.token_embedding.weight" in bare.values():
        bare = {full: names.without_text_module(name) for full, name in bare.items()}
        if len(set(bare.values())) < len(bare):
            raise CheckpointError(f"{source}: holds its text tower twice, with and without 'text.' before its names.")
    moves, unknown = names.moves_to_hub(bare.values())
    if unknown:
        raise CheckpointError(
            f"{source}: holds {len(unknown)} tensors that no CLIP or X-CLIP has: {', '.join(unknown[:5])[:300]}"
            f"{', …' if len(unknown) > 5 else ''}."
        )
    by_bare = {name: full for full, name in bare.items()}
    moves = [move._replace(source=by_bare[move.source]) for move in moves]
    for source_name, targets, transposed in moves:
        shape = stored[source_name].shape
        if (transposed and len(shape) != 2) or (len(targets) > 1 and (not shape or shape[0] % len(targets))):
            raise CheckpointError(f"{source}: its {source_name} is {shape}, which no CLIP or X-CLIP has.")
    return moves


def _shapes(stored: Mapping[str, Stored], moves: Iterable[names.Move]) -> dict[str, tuple[int, ...]]:
    """Sizes by the hub's names."""
    made: dict[str, tuple[int, ...]] = {}
    for source, targets, transposed in moves:
        shape = stored[source].shape
        if len(targets) > 1:
            shape = (shape[0] // len(targets), *shape[1:])
        made.update(dict.fromkeys(targets, shape[::-1] if transposed else shape))
    return made
