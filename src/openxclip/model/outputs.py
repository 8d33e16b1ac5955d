"""What the models return: dataclasses that also index by name or position, as transformers' outputs do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree  # torch.export's own registration imports seconds' worth of modules


class VideoFeatures(NamedTuple):
    """What must be kept of a video to score it against any texts later: `XCLIPModel.encode_video` makes it.

    Attributes:
        pooled: (B, E) integrated frame features, not normalised: what `get_video_features` returns.
        patches: (B, P, E) projected patch tokens, averaged over frames: what the prompts attend to.
    """

    pooled: torch.Tensor
    patches: torch.Tensor


class Output:
    """Fields that are None count as absent: `keys`, `to_tuple`, positions and `len` leave them out."""

    def __init_subclass__(cls) -> None:
        pytree.register_pytree_node(  # so that torch.export and torch.compile take it as a result
            cls,
            _values_and_names,
            lambda values, names: cls(**dict(zip(names, values, strict=True))),
            serialized_type_name=f"openxclip.{cls.__name__}",
            flatten_with_keys_fn=_keyed_values_and_names,
        )

    def keys(self) -> list[str]:
        """Names of the fields that are there, in order."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]  # type: ignore[arg-type]

    def values(self) -> list[Any]:
        """The fields that are there, in order."""
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        """Names and values of the fields that are there, in order."""
        return list(zip(self.keys(), self.values(), strict=True))

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are there, as a tuple; outputs inside become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, Output) else value for value in self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self.keys():
                raise KeyError(f"{key!r}; this {type(self).__name__} has {', '.join(self.keys())}")
            return getattr(self, key)
        return self.to_tuple()[key]

    def get(self, key: str, default: Any = None) -> Any:
        """The field of that name, or `default` where it is absent."""
        return self[key] if key in self.keys() else default

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


def _values_and_names(output: Output) -> tuple[list[Any], list[str]]:
    return output.values(), output.keys()


def _keyed_values_and_names(output: Output) -> tuple[list[tuple[Any, Any]], list[str]]:
    return [(pytree.GetAttrKey(name), value) for name, value in output.items()], output.keys()


@dataclass
class TransformerOutput(Output):
    """The output of one transformer: the text tower, the video tower, or MIT.

    N is K texts, B * T frames, or B videos; L is tokens, 1 + patches, or frames.

    Attributes:
        last_hidden_state: (N, L, D).
        pooler_output: (N, D) the end-of-text token's state; the class token's after `post_layernorm`; the mean over T.
        hidden_states: with `output_hidden_states`, the input of the first block and each block's output.
        attentions: with `output_attentions`, each block's (N, H, L, L) weights; in the video tower L is
            1 + patches + 1, the message token being the last row and column.
    """

    last_hidden_state: torch.Tensor
    pooler_output: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class XCLIPOutput(Output):
    """The output of `XCLIPModel.forward`. Fields and their order are those of transformers 4.

    Attributes:
        loss: scalar; class cross-entropy with `labels`, contrastive with `return_loss`.
        logits_per_video: (B, K) `exp(logit_scale) * cos(video, text + prompt)`.
        logits_per_text: (K, B) its transpose.
        text_embeds: (B, K, E) unit vectors of text + prompt, for they depend on the video; (K, E) unit vectors of the
            bare texts in a forward without a video.
        video_embeds: (B, E) unit vectors.
        text_model_output, vision_model_output, mit_output: of the parts that ran.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_model_output: TransformerOutput | None = None
    vision_model_output: TransformerOutput | None = None
    mit_output: TransformerOutput | None = None
