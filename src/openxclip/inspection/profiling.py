"""Count parameters, multiply-adds and memory of each part of a model, by arithmetic on its configuration alone.

**Multiply-adds** (MACs) are counted in matrix products: linear layers, the patch embedding and both products of
attention. As usual, elementwise operations (norms, softmax, activations, additions) are left out: they are under 1 % of
the released models' work. A multiply-add is two floating-point operations, so FLOPs are exactly twice the MACs.

The paper's FLOPs column (arXiv 2208.02816) counts MACs of one view in the video tower, MIT and the prompts of 400
texts, the classes of Kinetics-400. It excludes the text tower, which runs once for all videos. So it corresponds to
`Profile.video.macs`, within 3 %:

| | B/32, 8 frames | B/32, 16 | B/16, 8 | B/16, 16 | L/14, 8 | L/14 at 336 pixels, 16 |
|---|---|---|---|---|---|---|
| paper, G | 39 | 75 | 145 | 287 | 658 | 3086 |
| here, GMACs | 37.9 | 73.6 | 143.5 | 284.5 | 655.5 | 3066.0 |

This package's model computes slightly less than the authors': a message token isn't a query, since its output would be
dropped, and patches are averaged over frames before they are projected for the prompts. This saves under 0.7 %.

**Memory** of activations is the peak of this package's forward for one video, or for all texts at once: without
gradients, with the clip in the weights' dtype, and with fused attention (no matrix of all tokens by all tokens). It
excludes the weights, scratch memory of kernels, reserves of the allocator, and CUDA's context. A compiled model needs
less.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from openxclip import hub
from openxclip.checkpoints import config_in, read_checkpoint
from openxclip.checkpoints.released import config_of_released, released_as
from openxclip.config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11

    from openxclip.model import XCLIPModel

_BYTES = {"float32": 4, "bfloat16": 2}
_MAX_NUMBER = (1 << 31) - 1  # as in configurations


@dataclass(frozen=True)
class Cost:
    """Cost of a part of a model, or of several parts.

    Attributes:
        per: "video" if the part runs for every video, "texts" if it runs once for all texts, "model" for both.
        parameters: number of parameters.
        macs: multiply-adds of matrix products.
        activations: peak number of values in memory, with the part's inputs.
    """

    per: Literal["video", "texts", "model"]
    parameters: int
    macs: int
    activations: int

    @property
    def flops(self) -> int:
        """Floating-point operations of matrix products: two per multiply-add."""
        return 2 * self.macs

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes of the weights, by dtype."""
        return {dtype: size * self.parameters for dtype, size in _BYTES.items()}

    @property
    def activation_bytes(self) -> dict[str, int]:
        """Bytes of the activations, by dtype."""
        return {dtype: size * self.activations for dtype, size in _BYTES.items()}

    def as_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        names = ("per", "parameters", "macs", "flops", "weight_bytes", "activation_bytes")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Profile:
    """Cost of a model, counted as `openxclip.inspection.profiling` describes.

    Attributes:
        model: the given name; "" for a configuration or a model in memory.
        num_frames, image_size: frames T of the video, and pixels of a frame's side.
        num_texts, text_length: number K of texts, and tokens of each text.
        parts: cost of each part, in the order in which a video and then the texts pass through them.
    """

    model: str
    num_frames: int
    image_size: int
    num_texts: int
    text_length: int
    parts: dict[str, Cost]

    @property
    def video(self) -> Cost:
        """Cost of one video, from its frames to the scores of all texts, whose features are given."""
        return self._sum("video")

    @property
    def texts(self) -> Cost:
        """Cost of the texts, once for all videos, from their tokens to their features.

        `VideoPipeline` encodes long lists of texts in batches, which needs less memory.
        """
        return self._sum("texts")

    @property
    def total(self) -> Cost:
        """Cost of the whole model: a video and the texts in one call."""
        return self.of(self.parts)

    def of(self, names: Iterable[str]) -> Cost:
        """Return the cost of several parts: sums, and the highest peak of memory."""
        parts = [self.parts[name] for name in names]
        kinds = {part.per for part in parts}
        return Cost(
            parts[0].per if len(kinds) == 1 else "model",
            sum(part.parameters for part in parts),
            sum(part.macs for part in parts),
            max(part.activations for part in parts),
        )

    def _sum(self, per: str) -> Cost:
        return self.of(name for name, part in self.parts.items() if part.per == per)

    def as_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        about = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "parts"}
        sums = {name: getattr(self, name).as_dict() for name in ("video", "texts", "total")}
        return {**about, **sums, "parts": {name: part.as_dict() for name, part in self.parts.items()}}


def profile(
    model: str | Path | XCLIPConfig | XCLIPModel,
    *,
    num_texts: int = 400,
    text_length: int | None = None,
    num_frames: int | None = None,
    **hub_options: Unpack[hub.HubOptions],
) -> Profile:
    """Count parameters, multiply-adds and memory of each part of a model, without reading weights or importing PyTorch.

    Args:
        model: a folder, a file of weights, a hub id, `"mini"`, an `XCLIPConfig`, or a model. Released models are known
            by name; for other hub ids that aren't in the cache, config.json is downloaded.
        num_texts: number K of texts to score; 400 in the paper.
        text_length: tokens of each text, with padding; default is the model's context (77). Labels of a few words,
            padded to the longest, cost a tenth of that.
        num_frames: frames T of the video; default is the number that the model was trained with.
        **hub_options: see `openxclip.hub.HubOptions`.

    Raises:
        CheckpointError: there is no such model, or it isn't an X-CLIP.
        ValueError: a number is out of its range.

    Examples:
        >>> from openxclip import profile
        >>> round(profile("microsoft/xclip-base-patch32").total.parameters / 1e6, 1)
        196.6
    """
    config = _config_of(model, hub_options)
    vision, context = config.vision_config, config.text_config.max_position_embeddings
    frames = vision.num_frames if num_frames is None else num_frames
    length = context if text_length is None else text_length
    for name, value, most in (
        ("num_texts", num_texts, _MAX_NUMBER),
        ("num_frames", frames, _MAX_NUMBER),
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


def _config_of(model: str | Path | XCLIPConfig | XCLIPModel, hub_options: hub.HubOptions) -> XCLIPConfig:
    if not isinstance(model, (str, Path)):
        config = getattr(model, "config", model)
        if not isinstance(config, XCLIPConfig):
            raise TypeError(f"model is a {type(model).__name__}: must be a name, a path, an XCLIPConfig or XCLIPModel.")
        return config
    file = hub.existing_file(model)
    if file is not None:
        checkpoint = read_checkpoint(file, hidden_act="quick_gelu")  # every activation has the same cost
        if checkpoint.kind == "clip":
            raise CheckpointError(f"{file}: is a CLIP (no video parts): `openxclip convert` makes an X-CLIP of it.")
        return config_in(checkpoint, XCLIPConfig)
    released = released_as(str(model))
    if released and released.name == str(model) and not hub_options and not Path(model).is_dir():
        return config_of_released(released)
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

    def with_activations(self, activations: int, per: Literal["video", "texts"] = "video") -> Cost:
        return Cost(per, self.parameters, self.macs, activations)


def _linear(rows: int, width: int, out: int, *, bias: bool = True) -> _Work:
    return _Work(width * out + bias * out, rows * width * out)


def _norm(width: int) -> _Work:
    return _Work(2 * width)


def _attention(batch: int, queries: int, keys: int, width: int, *, bias: bool = True) -> _Work:
    """Count attention of `queries` to `keys`, `batch` times; the output projection always has a bias."""
    projections = 2 * _linear(batch * keys, width, width, bias=bias) + _linear(batch * queries, width, width, bias=bias)
    products = _Work(0, 2 * batch * queries * keys * width)  # queries with keys, and weights with values
    return projections + products + _linear(batch * queries, width, width)


def _mlp(rows: int, width: int, inner: int) -> _Work:
    return _linear(rows, width, inner) + _linear(rows, inner, width)


def _block(batch: int, length: int, width: int, inner: int) -> _Work:
    """Count a pre-norm block of self-attention and MLP. A causal mask doesn't reduce the count."""
    return 2 * _norm(width) + _attention(batch, length, length, width) + _mlp(batch * length, width, inner)


def _peak_of_mlp(rows: int, width: int, inner: int) -> int:
    """Return the number of values: the block's input, attention's output, their sum, its norm and the result, and the
    inner width before and after the activation.
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
    attention = _norm(width) + _attention(frames, tokens + 1, tokens + 1, width)  # a frame's tokens and its message
    norms = rows * width + frames * (tokens + 1) * width  # a frame's tokens, and these with its message
    return {
        "vision_embeddings": (embeddings + 2 * _norm(width)).with_activations(  # norms before and after the blocks
            clip + max(frames * patches * (pixels_of_patch + width), 3 * rows * width)
        ),
        "vision_messages": (layers * messages).with_activations(clip + rows * width + 8 * frames * width),
        "vision_attention": (layers * attention).with_activations(
            clip + 3 * rows * width + norms + 2 * (rows + frames) * width
        ),
        "vision_mlp": (layers * (_norm(width) + _mlp(rows, width, inner))).with_activations(
            clip + norms + _peak_of_mlp(rows, width, inner)
        ),
    }


def _after_video_tower(config: XCLIPConfig, frames: int, texts: int) -> dict[str, Cost]:
    vision, joint, layers = config.vision_config, config.projection_dim, config.prompt_layers
    width, mit_inner = vision.hidden_size, vision.mit_intermediate_size
    patches = (vision.image_size // vision.patch_size) ** 2
    tower_out = frames * (1 + patches) * width
    mit_block = _block(1, frames, joint, mit_inner)
    positions = _Work(vision.num_frames * joint)  # as many as it was trained with
    prompt_block = 2 * _norm(joint) + _attention(1, texts, patches, joint, bias=False) + _mlp(texts, joint, 4 * joint)
    patch_projection = _norm(width) + _linear(patches, width, joint, bias=False)  # of the mean over frames
    return {
        "visual_projection": _linear(frames, width, joint, bias=False).with_activations(
            tower_out + frames * (width + joint)
        ),
        "mit": (positions + vision.mit_num_hidden_layers * mit_block).with_activations(
            tower_out + frames * joint + _peak_of_mlp(frames, joint, mit_inner)
        ),
        "prompts_patches": patch_projection.with_activations(tower_out + patches * (frames * width + width + joint)),
        "prompts_generator": (_norm(joint) + _Work(joint) + layers * prompt_block).with_activations(
            # texts as given, in a layer, with the attention's output, normed; 3 times the inner width for QuickGELU
            2 * patches * joint + texts * (4 + 3 * 4) * joint
        ),
        "scores": _Work(1, texts * joint).with_activations(4 * texts * joint),  # the temperature, and a cosine per text
    }


def _texts(text: XCLIPTextConfig, joint: int, texts: int, length: int) -> dict[str, Cost]:
    width, inner, layers = text.hidden_size, text.intermediate_size, text.num_hidden_layers
    embeddings = _Work((text.vocab_size + text.max_position_embeddings) * width)
    tower = embeddings + layers * _block(texts, length, width, inner) + _norm(width)
    return {
        "text_tower": tower.with_activations(_peak_of_mlp(texts * length, width, inner), "texts"),
        "text_projection": _linear(texts, width, joint, bias=False).with_activations(texts * (width + joint), "texts"),
    }
