"""Recognise the naming scheme of a file's tensors, and map their names to the hub's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from openxclip.checkpoints import names
from openxclip.checkpoints.pickled import Stored
from openxclip.errors import CheckpointError

Layout: TypeAlias = Literal["hub", "huggingface_clip", "authors"]

# Models that X-CLIP can't start from, and the beginning of a tensor name that only they have.
_OTHER_MODELS = (
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
_SINGLE_TOWERS = (
    ("visual.class_embedding", "CLIP's vision tower"),
    ("vision_model.embeddings.class_embedding", "CLIP's vision tower"),
    ("class_embedding", "a vision tower"),
    ("token_embedding.weight", "CLIP's text tower"),
    ("text_model.embeddings.token_embedding.weight", "CLIP's text tower"),
)


def recognise_layout(stored: Mapping[str, Stored], source: Path) -> Layout:
    """Return the naming scheme of a file's tensors; "authors" includes OpenAI's and open_clip's.

    Raises:
        CheckpointError: the names are those of another model; the message names it if it is known.
    """
    bare = set(names.without_wrappers(stored).values())
    for sign, model in _OTHER_MODELS:
        if any(name.startswith(sign) for name in bare):
            raise CheckpointError(
                f"{source}: is {model}; "
                "X-CLIP starts from a CLIP with a plain vision transformer and CLIP's text tower."
            )
    if "text_model.embeddings.token_embedding.weight" in bare and any(n.startswith("vision_model.") for n in bare):
        return "hub" if "mit.position_embedding" in bare else "huggingface_clip"
    has_text = not bare.isdisjoint({"token_embedding.weight", "text.token_embedding.weight"})
    if has_text and {"visual.conv1.weight", "visual.class_embedding"} <= bare:
        return "authors"
    for name, tower in _SINGLE_TOWERS:
        if name in bare:
            raise CheckpointError(f"{source}: is {tower} alone; a whole X-CLIP or CLIP is needed.")
    some_names = ", ".join(sorted(bare)[:3])[:200] or "no tensors"
    raise CheckpointError(f"{source}: neither an X-CLIP nor a CLIP by the names in it ({some_names}, …).")


def plan_moves(stored: Mapping[str, Stored], source: Path, layout: Layout) -> tuple[names.Move, ...]:
    """Return the names that each tensor of a file has on the hub.

    Raises:
        CheckpointError: the file holds tensors that no CLIP or X-CLIP has, or quantised weights.
    """
    bare = {full: name for full, name in names.without_wrappers(stored).items() if not names.is_no_weight(name)}
    quantised = next((full for full in bare if "float" not in stored[full].dtype), None)
    if quantised is not None:
        dtype = stored[quantised].dtype
        raise CheckpointError(f"{source}: its {quantised} is of {dtype}: quantised weights aren't read.")
    if layout == "hub":
        return tuple(names.Move(full, (name,), False) for full, name in bare.items())
    if layout == "huggingface_clip":
        misspelt, right = "vision_model.pre_layrnorm.", "vision_model.pre_layernorm."  # the latter is X-CLIP's
        return tuple(names.Move(full, (name.replace(misspelt, right),), False) for full, name in bare.items())
    if "text.token_embedding.weight" in bare.values():  # open_clip's CustomTextCLIP
        bare = {full: name.removeprefix("text.") for full, name in bare.items()}
        if len(set(bare.values())) < len(bare):
            raise CheckpointError(f"{source}: holds its text tower twice, with and without 'text.' before its names.")
    moves, unknown = names.moves_to_hub(bare.values())
    if unknown:
        raise CheckpointError(
            f"{source}: holds {len(unknown)} tensors that no CLIP or X-CLIP has: {', '.join(unknown[:5])[:300]}"
            f"{', …' if len(unknown) > 5 else ''}."
        )
    full_names = {name: full for full, name in bare.items()}
    moves = [move._replace(source=full_names[move.source]) for move in moves]
    for move in moves:
        shape, parts = stored[move.source].shape, len(move.targets)
        if (move.transposed and len(shape) != 2) or (parts > 1 and (not shape or shape[0] % parts)):
            raise CheckpointError(f"{source}: its {move.source} is {shape}, which no CLIP or X-CLIP has.")
    return tuple(moves)


def shapes_by_hub_name(stored: Mapping[str, Stored], moves: Iterable[names.Move]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of tensors under the hub's names, without reading the tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    for source, targets, transposed in moves:
        shape = stored[source].shape
        if len(targets) > 1:
            shape = (shape[0] // len(targets), *shape[1:])
        shapes.update(dict.fromkeys(targets, shape[::-1] if transposed else shape))
    return shapes
