"""Translate tensor names between the authors' files (and OpenAI's and open_clip's) and the hub's, by one table.

`#` stands for the number of a block. In the authors' files, a block's queries, keys and values are one tensor, and the
two projections to the joint width are transposed; all else differs only in name. CLIPs have the same names without
those of messages, MIT and prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Row(NamedTuple):
    """A tensor of the authors' files, and the one or three tensors that it becomes in the hub's."""

    authors: str
    hub: tuple[str, ...]
    transposed: bool = False


def _same(authors: str, hub: str) -> list[Row]:
    """Rows of a module with weight and bias."""
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
    *[Row(name, (name,)) for name in (f"prompts_generator.decoder.#.cross_attn.{part}_proj.weight" for part in "qkv")],
    *[
        row
        for part in ("cross_attn.proj", "norm1", "norm3", "mlp.0", "mlp.3")
        for row in _same(f"prompts_generator.decoder.#.{part}", f"prompts_generator.decoder.#.{part}")
    ],
]
TABLE = (*_CLIP, *_OF_VIDEO)
_BY_AUTHORS = {row.authors: row for row in TABLE}
_BY_HUB = {name: row for row in TABLE for name in row.hub}
_CLIPS_OWN = frozenset(name for row in _CLIP for name in row.hub)

# Tensors of checkpoints that are no weights: sizes in OpenAI's archives, masks, position ids.
_NO_WEIGHTS = frozenset(
    {"input_resolution", "context_length", "vocab_size", "attn_mask", "text.attn_mask", "n_averaged"}
)
_BLOCK_NUMBER = re.compile(r"\.(\d+)\.")


def _pattern(name: str) -> tuple[str, str]:
    """Return the name with `#` for its block's number, and that number ("" if there is none)."""
    number = _BLOCK_NUMBER.search(name)
    return (_BLOCK_NUMBER.sub(".#.", name, count=1), number[1]) if number else (name, "")


def is_of_clip(hub_name: str) -> bool:
    """Whether a CLIP has a tensor of this hub name; otherwise it belongs to messages, MIT or prompts."""
    return hub_name in _CLIPS_OWN or _pattern(hub_name)[0] in _CLIPS_OWN


def is_no_weight(name: str) -> bool:
    """Whether a tensor of this name is no weight and can be dropped."""
    return name in _NO_WEIGHTS or name.endswith("embeddings.position_ids")


class Move(NamedTuple):
    """The tensor `source` of a file becomes `targets` under the hub's names."""

    source: str
    targets: tuple[str, ...]
    transposed: bool


def moves_to_hub(names: Iterable[str]) -> tuple[list[Move], list[str]]:
    """Return the moves of the authors' names, and the names that aren't in the table."""
    moves, unknown = [], []
    for name in names:
        pattern, number = _pattern(name)
        row = _BY_AUTHORS.get(pattern)
        if row is None:
            unknown.append(name)
        else:
            moves.append(Move(name, tuple(target.replace("#", number) for target in row.hub), row.transposed))
    return moves, unknown


def moved(tensor: Tensor, move: Move) -> dict[str, Tensor]:
    """Return, by their hub names, the tensors that a tensor of the authors' files becomes."""
    if move.transposed:
        tensor = tensor.T.contiguous()
    return dict(zip(move.targets, _parts(tensor) if len(move.targets) > 1 else [tensor], strict=True))


def to_authors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the hub's tensors under the authors' names, with the same bits.

    Raises:
        KeyError: a name isn't in the table, or one of queries, keys and values is missing.
    """
    import torch

    by_authors_name = {}
    for name, tensor in tensors.items():
        pattern, number = _pattern(name)
        row = _BY_HUB[pattern]
        if row.hub[0] != pattern:  # keys and values are joined with their queries
            continue
        parts = [tensors[part.replace("#", number)] for part in row.hub]
        tensor = torch.cat(parts) if len(parts) > 1 else tensor
        by_authors_name[row.authors.replace("#", number)] = tensor.T.contiguous() if row.transposed else tensor
    return by_authors_name


def _parts(tensor: Tensor) -> list[Tensor]:
    """Return three equal parts: each its own storage over the same memory, so that saving treats them as separate."""
    import torch

    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        return [part.clone() for part in tensor.chunk(3)]
    memory, parts = tensor.untyped_storage(), []
    for part in tensor.chunk(3):
        start = part.storage_offset() * part.element_size()
        storage = memory[start : start + part.numel() * part.element_size()]
        parts.append(torch.empty(0, dtype=part.dtype, device="cpu").set_(storage, 0, part.shape, part.stride()))
    return parts


def without_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Return each name without prefixes of wrappers of the whole model.

    These are `module.` of parallel training, `_orig_mod.` of torch.compile, and `model.` of Lightning.
    """
    bare = {name: name for name in names}
    for wrapper in ("module.", "_orig_mod.", "module.", "model."):
        if bare and all(name.startswith(wrapper) for name in bare.values() if name not in _NO_WEIGHTS):
            bare = {full: name.removeprefix(wrapper) for full, name in bare.items()}
    return bare
