"""One table of tensor names, used both ways: the authors' (and OpenAI's and open_clip's, whom they follow) ↔ the hub's.

`#` stands for the number of a block. In the authors' files a block's queries, keys and values are one tensor, and the
two projections to the joint width lie transposed; nothing else differs but the names. CLIPs have the same names
without those of messages, MIT and prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Row(NamedTuple):
    """One tensor of the authors', and the one or three of the hub's that it is."""

    authors: str
    hub: tuple[str, ...]
    transposed: bool = False


def _same(authors: str, hub: str) -> list[Row]:
    """A module with weight and bias."""
    return [Row(f"{authors}.{kind}", (f"{hub}.{kind}",)) for kind in ("weight", "bias")]


def _attention(authors: str, hub: str) -> list[Row]:
    split = [
        Row(f"{authors}.in_proj_{kind}", tuple(f"{hub}.{part}_proj.{kind}" for part in "qkv"))
        for kind in ("weight", "bias")
    ]
    return split + _same(f"{authors}.out_proj", f"{hub}.out_proj")


def _blocks(authors: str, hub: str) -> list[Row]:
    return [
        *_attention(f"{authors}.attn", f"{hub}.self_attn"),
        *_same(f"{authors}.ln_1", f"{hub}.layer_norm1"),
        *_same(f"{authors}.ln_2", f"{hub}.layer_norm2"),
        *_same(f"{authors}.mlp.c_fc", f"{hub}.mlp.fc1"),
        *_same(f"{authors}.mlp.c_proj", f"{hub}.mlp.fc2"),
    ]


_CLIP = [
    Row("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
    Row("positional_embedding", ("text_model.embeddings.position_embedding.weight",)),
    *_blocks("transformer.resblocks.#", "text_model.encoder.layers.#"),
    *_same("ln_final", "text_model.final_layer_norm"),
    Row("text_projection", ("text_projection.weight",), transposed=True),
    Row("visual.conv1.weight", ("vision_model.embeddings.patch_embedding.weight",)),
    Row("visual.class_embedding", ("vision_model.embeddings.class_embedding",)),
    Row("visual.positional_embedding", ("vision_model.embeddings.position_embedding.weight",)),
    *_same("visual.ln_pre", "vision_model.pre_layernorm"),
    *_blocks("visual.transformer.resblocks.#", "vision_model.encoder.layers.#"),
    *_same("visual.ln_post", "vision_model.post_layernorm"),
    Row("visual.proj", ("visual_projection.weight",), transposed=True),
    Row("logit_scale", ("logit_scale",)),
]
_OF_VIDEO = [
    *_same("visual.transformer.resblocks.#.message_fc", "vision_model.encoder.layers.#.message_fc"),
    *_same("visual.transformer.resblocks.#.message_ln", "vision_model.encoder.layers.#.message_ln"),
    *_attention("visual.transformer.resblocks.#.message_attn", "vision_model.encoder.layers.#.message_attn"),
    Row("mit.positional_embedding", ("mit.position_embedding",)),
    *_blocks("mit.resblocks.#", "mit.encoder.layers.#"),
    *_same("prompts_visual_ln", "prompts_visual_layernorm"),
    Row("prompts_visual_proj", ("prompts_visual_projection",)),
    *_same("prompts_generator.norm", "prompts_generator.layernorm"),
    Row("prompts_generator.alpha", ("prompts_generator.alpha",)),
    *[
        Row(name, (name,))
        for name in (
            *(f"prompts_generator.decoder.#.cross_attn.{part}_proj.weight" for part in "qkv"),
            *(
                f"prompts_generator.decoder.#.{part}.{kind}"
                for part in ("cross_attn.proj", "norm1", "norm3", "mlp.0", "mlp.3")
                for kind in ("weight", "bias")
            ),
        )
    ],
]
TABLE = (*_CLIP, *_OF_VIDEO)
_BY_AUTHORS = {row.authors: row for row in TABLE}
_BY_HUB = {name: row for row in TABLE for name in row.hub}
_CLIPS_OWN = frozenset(name for row in _CLIP for name in row.hub)

# What a checkpoint may hold beside weights: sizes in OpenAI's archives, masks, index numbers that can be counted out.
_NO_WEIGHTS = frozenset(
    {"input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask", "n_averaged"}
)
_BLOCK_NUMBER = re.compile(r"\.(\d+)\.")


def _pattern(name: str) -> tuple[str, str]:
    """The name with `#` for its block's number, and that number ("" if there is none)."""
    number = _BLOCK_NUMBER.search(name)
    return (_BLOCK_NUMBER.sub(".#.", name, count=1), number[1]) if number else (name, "")


def is_of_clip(hub_name: str) -> bool:
    """Whether a tensor with this name of the hub's is a CLIP's; else it is of messages, MIT or prompts."""
    return hub_name in _CLIPS_OWN or _pattern(hub_name)[0] in _CLIPS_OWN


def is_no_weight(name: str) -> bool:
    """Whether it names something in a checkpoint that no model needs."""
    return name in _NO_WEIGHTS or name.endswith("embeddings.position_ids")


class Move(NamedTuple):
    """The tensor `source` of the authors' is `targets` of the hub's."""

    source: str
    targets: tuple[str, ...]
    transposed: bool


def moves_to_hub(names: Iterable[str]) -> tuple[list[Move], list[str]]:
    """What becomes of each of the authors' names, and the names that aren't in the table."""
    moves, unknown = [], []
    for name in names:
        pattern, number = _pattern(name)
        row = _BY_AUTHORS.get(pattern)
        if row is None:
            unknown.append(name)
        else:
            moves.append(Move(name, tuple(target.replace("#", number) for target in row.hub), row.transposed))
    return moves, unknown


def to_hub(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under the hub's names; nothing is copied but the two transposed projections.

    Raises:
        KeyError: a name that isn't in the table.
    """
    moves, unknown = moves_to_hub(tensors)
    if unknown:
        raise KeyError(unknown[0])
    made: dict[str, Tensor] = {}
    for move in moves:
        made.update(moved(tensors[move.source], move))
    return made


def moved(tensor: Tensor, move: Move) -> dict[str, Tensor]:
    """A tensor of the authors' as what it is by the hub's names."""
    if move.transposed:
        tensor = tensor.T.contiguous()
    return dict(zip(move.targets, _parts(tensor) if len(move.targets) > 1 else [tensor], strict=True))


def to_authors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The hub's tensors under the authors' names, the reverse of `to_hub`, and bit for bit the same numbers.

    Raises:
        KeyError: a name that isn't in the table, or one of three that belong together is missing.
    """
    import torch

    made = {}
    for name, tensor in tensors.items():
        pattern, number = _pattern(name)
        row = _BY_HUB[pattern]
        if row.hub[0] != pattern:  # keys and values go where their queries go
            continue
        parts = [tensors[part.replace("#", number)] for part in row.hub]
        tensor = torch.cat(parts) if len(parts) > 1 else tensor
        made[row.authors.replace("#", number)] = tensor.T.contiguous() if row.transposed else tensor
    return made


def _parts(tensor: Tensor) -> list[Tensor]:
    """Three equal parts, each a storage of its own over the same memory, so that saving doesn't take them for one."""
    import torch

    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        return [part.clone() for part in tensor.chunk(3)]
    memory, made = tensor.untyped_storage(), []
    for part in tensor.chunk(3):
        start = part.storage_offset() * part.element_size()
        stretch = memory[start : start + part.numel() * part.element_size()]
        made.append(torch.empty(0, dtype=part.dtype, device="cpu").set_(stretch, 0, part.shape, part.stride()))
    return made


def without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Each name without what wraps the whole model: `module.` of parallel training, `_orig_mod.` of compiling,
    `model.` of Lightning.
    """
    bare = {name: name for name in names}
    for wrapper in ("module.", "_orig_mod.", "module.", "model."):
        if bare and all(name.startswith(wrapper) for name in bare.values() if name not in _NO_WEIGHTS):
            bare = {full: name.removeprefix(wrapper) for full, name in bare.items()}
    return bare


def without_text_module(name: str) -> str:
    """A name of open_clip's CustomTextCLIP, which keeps the text tower in `text.`, as its plain CLIP has it."""
    return name.removeprefix("text.")


def as_xclip(hugging_face_clip_name: str) -> str:
    """A name of Hugging Face's CLIP as their X-CLIP has it: the two differ by a slip of spelling."""
    return hugging_face_clip_name.replace("vision_model.pre_layrnorm.", "vision_model.pre_layernorm.")
