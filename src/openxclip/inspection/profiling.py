"""What a model costs, part by part: parameters, multiply-adds and memory, by arithmetic on its configuration alone.

**Multiply-adds** (MACs) are those of matrix products: linear layers, the patch embedding, the two products of
attention. What goes element by element (norms, softmax, activations, additions) is left out, as is usual: it is under
1 % of the released models' work. A multiply-add is two floating-point operations: FLOPs are exactly twice the MACs.

The paper's FLOPs column (arXiv 2208.02816) counts MACs: those of one view in the video tower, in MIT and in the prompts
of 400 texts, the classes of Kinetics-400. The text tower, which runs once for all videos, is not in it. That is
`Profile.video.macs`, within 3 %:

| | B/32, 8 frames | B/32, 16 | B/16, 8 | B/16, 16 | L/14, 8 | L/14 at 336 pixels, 16 |
|---|---|---|---|---|---|---|
| paper, G | 39 | 75 | 145 | 287 | 658 | 3086 |
| here, GMACs | 37.9 | 73.6 | 143.5 | 284.5 | 655.5 | 3066.0 |

Counted is what this package's model does, which is a little less than the authors': a message token is no query, since
it is thrown away after the block, and patches are averaged over frames before they are projected for the prompts.
Both together save under 0.7 %.

**Memory** of activations is what this package's forward holds at its fullest moment, for one video, or for all texts at
once: without gradients, the clip in the weights' dtype, with fused attention (no map of all tokens by all tokens). Not
in it are the weights, scratch memory of kernels, what an allocator keeps in reserve, and CUDA's context. A compiled
model holds less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openxclip import hub
from openxclip.checkpoints.formats import read_checkpoint
from openxclip.checkpoints.released import config_of_released, released_as
from openxclip.config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from openxclip.model import XCLIPModel

_BYTES = {"float32": 4, "bfloat16": 2}
_MOST = (1 << 31) - 1  # as of the numbers in a configuration


@dataclass(frozen=True)
class Cost:
    """What a part of a model, or several, cost.

    Attributes:
        per: "video" if it runs for every video, "texts" if it runs once for all texts, "model" for a sum of both.
        parameters: how many numbers its weights are.
        macs: multiply-adds of its matrix products.
        activations: how many numbers are held at its fullest moment, its inputs among them.
    """

    per: Literal["video", "texts", "model"]
    parameters: int
    macs: int
    activations: int

    @property
    def flops(self) -> int:
        """Floating-point operations of its matrix products: two to a multiply-add."""
        return 2 * self.macs

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes of its weights, by dtype."""
        return {dtype: size * self.parameters for dtype, size in _BYTES.items()}

    @property
    def activation_bytes(self) -> dict[str, int]:
        """Bytes of its activations, by dtype."""
        return {dtype: size * self.activations for dtype, size in _BYTES.items()}

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        return {
            "per": self.per,
            "parameters": self.parameters,
            "macs": self.macs,
            "flops": self.flops,
            "weight_bytes": self.weight_bytes,
            "activation_bytes": self.activation_bytes,
        }


@dataclass(frozen=True)
class Profile:
    """What a model costs; how it is counted, `openxclip.inspection.profiling` says.

    Attributes:
        model: the name that was given; "" for a configuration or a model in memory.
        num_frames, image_size: of the video: T, and the pixels of a frame's side.
        num_texts, text_length: of the texts: K, and the tokens of each.
        parts: what each part costs, in the order in which a video and then the texts go through them.
    """

    model: str
    num_frames: int
    image_size: int
    num_texts: int
    text_length: int
    parts: dict[str, Cost]

    @property
    def video(self) -> Cost:
        """All that one video needs: from its frames to the scores of all texts, whose features are there already."""
        return self._sum("video")

    @property
    def texts(self) -> Cost:
        """All that the texts need, once for all videos: from their tokens to their features.

        `VideoPipeline` encodes long lists of them in parts, which holds less.
        """
        return self._sum("texts")

    @property
    def total(self) -> Cost:
        """The whole model: a video and the texts in one call."""
        return self._sum("video", "texts")

    def of(self, names: Iterable[str]) -> Cost:
        """Several parts as one: sums, and the fullest moment of any."""
        parts = [self.parts[name] for name in names]
        kinds = {part.per for part in parts}
        return Cost(
            parts[0].per if len(kinds) == 1 else "model",
            sum(part.parameters for part in parts),
            sum(part.macs for part in parts),
            max(part.activations for part in parts),
        )

    def _sum(self, *kinds: str) -> Cost:
        return self.of(name for name, part in self.parts.items() if part.per in kinds)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON values."""
        about = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "parts"}
        sums = {name: getattr(self, name).as_dict() for name in ("video", "texts", "total")}
        return {**about, **sums, "parts": {name: part.as_dict() for name, part in self.parts.items()}}


def profile(
    model: str | Path | XCLIPConfig | XCLIPModel,
    *,
    num_texts: int = 400,
    text_length: int | None = None,
    num_frames: int | None = None,
    **hub_options: Any,
) -> Profile:
    """Parameters, multiply-adds and memory of each part of a model. No weight is read, and PyTorch isn't imported.

    Args:
        model: a folder, a file of weights, a hub id, `"mini"`, an `XCLIPConfig`, or a model. What was released is known
            by its name; of another hub id that isn't in the cache, config.json is downloaded.
        num_texts: K that a video is scored against; 400 in the paper.
        text_length: tokens of each text, padding included; default is the most there can be, the model's context (77).
            Labels of a few words, padded to the longest of them, cost a tenth of that.
        num_frames: T of the video; default is what the model was trained with.
        **hub_options: see `openxclip.hub.resolve_folder`.

    Raises:
        CheckpointError: there is no such model, or it is no X-CLIP.
        ValueError: a number that can't be.
    """
    config = _config_of(model, hub_options)
    vision, context = config.vision_config, config.text_config.max_position_embeddings
    frames = vision.num_frames if num_frames is None else num_frames
    length = context if text_length is None else text_length
    for name, value, most in (
        ("num_texts", num_texts, _MOST),
        ("num_frames", frames, _MOST),
        ("text_length", length, context),
    ):
        if type(value) is not int or not 0 < value <= most:
            raise ValueError(f"{name}={value!r:.80}: must be a whole number from 1 to {most}.")
    parts = {
        **_video_tower(vision, frames),
        **_after_video_tower(config, frames, num_texts),
        **_texts(config.text_config, config.projection_dim, num_texts, length),
    }
    name = str(model) if isinstance(model, (str, Path)) else ""
    return Profile(name, frames, vision.image_size, num_texts, length, parts)


def _config_of(model: str | Path | XCLIPConfig | XCLIPModel, hub_options: dict[str, Any]) -> XCLIPConfig:
    if not isinstance(model, (str, Path)):
        config = getattr(model, "config", model)
        if not isinstance(config, XCLIPConfig):
            raise TypeError(f"model is a {type(model).__name__}: must be a name, a path, an XCLIPConfig or XCLIPModel.")
        return config
    file = hub.existing_file(model)
    if file is not None:
        found = read_checkpoint(file, hidden_act="quick_gelu")  # which costs what any other does
        if found.kind == "clip":
            raise CheckpointError(f"{file}: is a CLIP (no video parts): `openxclip convert` makes an X-CLIP of it.")
        try:
            return XCLIPConfig.from_dict(found.config)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{file}: {error}") from error
    known = released_as(str(model))
    if known and known.name == str(model) and not hub_options and not Path(model).is_dir():
        return config_of_released(known)
    return XCLIPConfig.from_pretrained(model, **hub_options)


# ---------------------------------------------------------------------------------------------------- counting


@dataclass(frozen=True)
class _Work:
    parameters: int
    macs: int = 0

    def __add__(self, other: _Work) -> _Work:
        return _Work(self.parameters + other.parameters, self.macs + other.macs)

    def __rmul__(self, layers: int) -> _Work:
        return _Work(layers * self.parameters, layers * self.macs)

    def holding(self, activations: int, per: Literal["video", "texts"] = "video") -> Cost:
        return Cost(per, self.parameters, self.macs, activations)


def _linear(rows: int, width: int, out: int, *, bias: bool = True) -> _Work:
    return _Work(width * out + bias * out, rows * width * out)


def _norm(width: int) -> _Work:
    return _Work(2 * width)


def _attention(batch: int, queries: int, keys: int, width: int, *, bias: bool = True) -> _Work:
    """`batch` times so many queries to so many keys; the output projection has a bias in any case."""
    projections = 2 * _linear(batch * keys, width, width, bias=bias) + _linear(batch * queries, width, width, bias=bias)
    products = _Work(0, 2 * batch * queries * keys * width)  # of queries with keys, and of weights with values
    return projections + products + _linear(batch * queries, width, width)


def _mlp(rows: int, width: int, inner: int) -> _Work:
    return _linear(rows, width, inner) + _linear(rows, inner, width)


def _block(batch: int, length: int, width: int, inner: int) -> _Work:
    """A pre-norm block of self-attention and MLP. A causal mask saves nothing in this count."""
    return 2 * _norm(width) + _attention(batch, length, length, width) + _mlp(batch * length, width, inner)


def _held_by_mlp(rows: int, width: int, inner: int) -> int:
    """The block's input, what attention gave, their sum, its norm and the result; the inner width before and after the
    activation.
    """
    return rows * (5 * width + 2 * inner)


def _video_tower(vision: XCLIPVisionConfig, frames: int) -> dict[str, Cost]:
    width, inner, layers = vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers
    patches = (vision.image_size // vision.patch_size) ** 2
    tokens, rows = 1 + patches, frames * (1 + patches)
    pixels_of_patch = vision.num_channels * vision.patch_size**2
    clip = frames * vision.num_channels * vision.image_size**2
    embeddings = _linear(frames * patches, pixels_of_patch, width, bias=False) + _Work((1 + tokens) * width)
    messages = _linear(frames, width, width) + _norm(width) + _attention(1, frames, frames, width)
    attention = _norm(width) + _attention(frames, tokens + 1, tokens + 1, width)  # of a frame's tokens and its message
    norms = rows * width + frames * (tokens + 1) * width  # of a frame's tokens, and with its message
    return {
        "vision_embeddings": (embeddings + 2 * _norm(width)).holding(  # the norms are those round the blocks
            clip + max(frames * patches * (pixels_of_patch + width), 3 * rows * width)
        ),
        "vision_messages": (layers * messages).holding(clip + rows * width + 8 * frames * width),
        "vision_attention": (layers * attention).holding(clip + 3 * rows * width + norms + 2 * (rows + frames) * width),
        "vision_mlp": (layers * (_norm(width) + _mlp(rows, width, inner))).holding(
            clip + norms + _held_by_mlp(rows, width, inner)
        ),
    }


def _after_video_tower(config: XCLIPConfig, frames: int, texts: int) -> dict[str, Cost]:
    vision, joint, layers = config.vision_config, config.projection_dim, config.prompt_layers
    width, mit_inner = vision.hidden_size, vision.mit_intermediate_size
    patches = (vision.image_size // vision.patch_size) ** 2
    tower_out = frames * (1 + patches) * width
    mit_block = _block(1, frames, joint, mit_inner)
    positions = _Work(vision.num_frames * joint)  # those it was trained with, whatever the video has
    prompt_block = 2 * _norm(joint) + _attention(1, texts, patches, joint, bias=False) + _mlp(texts, joint, 4 * joint)
    patch_projection = _norm(width) + _linear(patches, width, joint, bias=False)  # of their mean over frames
    return {
        "visual_projection": _linear(frames, width, joint, bias=False).holding(tower_out + frames * (width + joint)),
        "mit": (positions + vision.mit_num_hidden_layers * mit_block).holding(
            tower_out + frames * joint + _held_by_mlp(frames, joint, mit_inner)
        ),
        "prompts_patches": patch_projection.holding(tower_out + patches * (frames * width + width + joint)),
        "prompts_generator": (_norm(joint) + _Work(joint) + layers * prompt_block).holding(
            # texts as given, in a layer, with what it attended to, normed; 3 times the inner width for QuickGELU
            2 * patches * joint + texts * (4 + 3 * 4) * joint
        ),
        "scores": _Work(1, texts * joint).holding(4 * texts * joint),  # the temperature, and one cosine a text
    }


def _texts(text: XCLIPTextConfig, joint: int, texts: int, length: int) -> dict[str, Cost]:
    width, inner, layers = text.hidden_size, text.intermediate_size, text.num_hidden_layers
    embeddings = _Work((text.vocab_size + text.max_position_embeddings) * width)
    tower = embeddings + layers * _block(texts, length, width, inner) + _norm(width)
    return {
        "text_tower": tower.holding(_held_by_mlp(texts * length, width, inner), "texts"),
        "text_projection": _linear(texts, width, joint, bias=False).holding(texts * (width + joint), "texts"),
    }
