"""Outputs of the models: dicts whose values can also be read as attributes and by position, as in transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, NoReturn, TypeVar

import torch
from torch.utils import _pytree as pytree  # torch.export's own registration takes seconds to import

_OutputT = TypeVar("_OutputT", bound="Output")
_PAIRS = (Mapping, Iterator)  # a tuple: PyTorch 2.8 can't compile isinstance with a union


class VideoFeatures(NamedTuple):
    """The result of `XCLIPModel.encode_video`: features for scoring videos against any texts later.

    Attributes:
        pooled: (B, E) MIT's unnormalised features, as from `get_video_features`.
        patches: (B, P, E) projected patch tokens, averaged over frames, to which the prompts attend.
    """

    pooled: torch.Tensor
    patches: torch.Tensor


class Output(dict[str, Any]):
    """A dict of the fields that are not None, in the order of the class. Every field is also an attribute.

    An integer or slice as the key indexes `to_tuple()`. Setting a field by name or as an attribute sets both; a field
    set to None is removed from the dict. Instead of fields, the class also accepts one dict or an iterator of
    (name, value) pairs, because `torch.nn.DataParallel` and Accelerate rebuild outputs that way.
    """

    def __init_subclass__(cls) -> None:
        pytree.register_pytree_node(  # for torch.export and torch.compile
            cls,
            lambda output: (list(output.values()), list(output)),
            lambda values, names: cls(dict(zip(names, values, strict=True))),
            serialized_type_name=f"openxclip.{cls.__name__}",
            flatten_with_keys_fn=lambda output: ([(pytree.GetAttrKey(k), v) for k, v in output.items()], list(output)),
        )

    def __post_init__(self) -> None:
        first = fields(self)[0].name  # type: ignore[arg-type]
        given = getattr(self, first)
        if isinstance(given, _PAIRS):
            object.__setattr__(self, first, None)
            for name, value in given.items() if isinstance(given, Mapping) else given:
                self[name] = value
        self._fill()

    def _fill(self) -> None:
        """Fill the dict with the fields that aren't None, in order, followed by its other items."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        others = {name: value for name, value in dict.items(self) if name not in values}
        dict.clear(self)
        dict.update(self, {name: value for name, value in values.items() if value is not None}, **others)

    def __setattr__(self, name: str, value: Any) -> None:
        is_initialized = name in self.__dict__
        object.__setattr__(self, name, value)
        if is_initialized:
            self._fill()

    def __setitem__(self, name: str, value: Any) -> None:
        dict.__setitem__(self, name, value)
        setattr(self, name, value)

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            if key not in self:
                raise KeyError(f"{key!r}; this {type(self).__name__} has {', '.join(self)}")
            return dict.__getitem__(self, key)
        return self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the values of the dict as a tuple; nested outputs become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, Output) else value for value in self.values())

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"the fields of a {type(self).__name__} can be set, one by one, but not removed.")

    __delitem__ = pop = popitem = clear = setdefault = update = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)


def resolve_flag(config: Any, name: str, given: bool | None) -> bool:
    """Return an `output_*` argument, or its default in the config if it is None."""
    return bool(getattr(config, name, False)) if given is None else given


def output_or_tuple(config: Any, output: _OutputT, return_dict: bool | None) -> _OutputT | tuple[Any, ...]:
    """Return the output, or its values as a tuple if `return_dict` is False; the config has the default for None."""
    if return_dict is None:
        return_dict = getattr(config, "use_return_dict", getattr(config, "return_dict", True))
    return output if return_dict else output.to_tuple()


@dataclass
class TransformerOutput(Output):
    """The output of one transformer: the text tower, the video tower, MIT, or the encoder of one of them.

    N is K texts, B * T frames, or B videos; L is tokens, 1 + patches, or frames.

    Attributes:
        last_hidden_state: (N, L, D).
        pooler_output: (N, D): in the text tower the state of the end-of-text token; in the video tower the state of the
            class token after `post_layernorm`; in MIT the mean over T; None from an `Encoder`.
        hidden_states: with `output_hidden_states`, the input of the first block and each block's output.
        attentions: with `output_attentions`, each block's (N, H, L, L) weights; in the video tower L is
            1 + patches + 1, with the message token as the last row and column.
    """

    last_hidden_state: torch.Tensor = None  # type: ignore[assignment]  # None only while an output is rebuilt
    pooler_output: torch.Tensor = None  # type: ignore[assignment]
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class XCLIPOutput(Output):
    """The output of `XCLIPModel.forward`. The fields and their order are the same as in transformers 4.

    Attributes:
        loss: scalar; class cross-entropy with `labels`, contrastive with `return_loss`.
        logits_per_video: (B, K) `exp(logit_scale) * cos(video, text + prompt)`.
        logits_per_text: (K, B) its transpose.
        text_embeds: (B, K, E) unit vectors of text + prompt, which depend on the video; (K, E) unit vectors of the
            texts alone in a forward without videos.
        video_embeds: (B, E) unit vectors.
        text_model_output, vision_model_output, mit_output: outputs of the parts that ran.
    """

    loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_embeds: torch.Tensor | None = None
    text_model_output: TransformerOutput | None = None
    vision_model_output: TransformerOutput | None = None
    mit_output: TransformerOutput | None = None
