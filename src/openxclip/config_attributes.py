"""The attributes that transformers gives every config, for code that reads or sets them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "_name_or_path"  # a place on this machine: never written into a config.json
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


def check_attention(implementation: Any) -> None:
    """Refuse the unknown name of an attention implementation. Known names change nothing.

    Args:
        implementation: a name, or a dict of names by part of the model; PyTorch picks the kernel whatever it says.

    Raises:
        ValueError: there is no attention of this name.
    """
    names = implementation.values() if isinstance(implementation, dict) else [implementation]
    for name in names:
        if name is not None and name not in _ATTENTION:
            raise ValueError(
                f"attn_implementation={name!r} is unknown; known are {', '.join(_ATTENTION)}, and all of them mean "
                "PyTorch's scaled_dot_product_attention here."
            )


class CommonAttributes:
    """Base of every config.

    Attributes that transformers gives every config have its defaults here, and are in JSON only once they are set.

    Attributes:
        output_attentions, output_hidden_states: what a forward returns if its arguments don't say.
        return_dict: whether a forward returns an object rather than a tuple if its argument doesn't say.
        gradient_checkpointing: whether a model of this config keeps no activations inside blocks.
        architectures: names of the classes that the weights are of.
        id2label, label2id, num_labels: classes of a head that client code adds; no class here has one.
        dtype: of the weights in the folder, a torch.dtype or None; `torch_dtype` is its older name.
        name_or_path: what the model of this config was read from, "" if it wasn't.
    """

    # Not annotated: subclasses are dataclasses, and these are not their fields.
    output_attentions = False
    output_hidden_states = False
    return_dict = True
    gradient_checkpointing = False
    is_encoder_decoder = False
    architectures = None  # type: list[str] | None
    problem_type = None  # type: str | None

    @property
    def use_return_dict(self) -> bool:
        """`return_dict`, by the name that transformers 4 reads."""
        return bool(self.return_dict)

    @property
    def name_or_path(self) -> str:
        """What the model of this config was read from; "" if it wasn't read."""
        return str(vars(self).get(NAME, ""))

    @name_or_path.setter
    def name_or_path(self, value: str | Path) -> None:
        vars(self)[NAME] = str(value)

    @property
    def _name_or_path(self) -> str:
        return self.name_or_path

    @_name_or_path.setter
    def _name_or_path(self, value: str | Path) -> None:
        self.name_or_path = value

    @property
    def _attn_implementation(self) -> str:
        """What client code reads: PyTorch's scaled_dot_product_attention is the only implementation."""
        return "sdpa"

    @_attn_implementation.setter
    def _attn_implementation(self, value: Any) -> None:
        check_attention(value)

    def __iter__(self) -> Iterator[str]:
        """The names of the attributes, as in transformers."""
        return iter(vars(self))

    @property
    def dtype(self) -> torch.dtype | None:
        """The type of the weights in the folder; None if it isn't known."""
        named = vars(self).get("dtype")
        if named is None:
            return None
        import torch  # only here: configs are read without PyTorch

        found = getattr(torch, str(named), None)
        return found if isinstance(found, torch.dtype) else None

    @dtype.setter
    def dtype(self, value: torch.dtype | str | None) -> None:
        vars(self)["dtype"] = None if value is None else str(value).removeprefix("torch.")

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """`dtype`, by its older name."""
        return self.dtype

    @torch_dtype.setter
    def torch_dtype(self, value: torch.dtype | str | None) -> None:
        self.dtype = value

    @property
    def id2label(self) -> dict[int, str]:
        """Class numbers to names; two classes if nobody set any, as in transformers."""
        found: dict[int, str] | None = vars(self).get("id2label")
        return {0: "LABEL_0", 1: "LABEL_1"} if found is None else found

    @id2label.setter
    def id2label(self, value: dict[Any, str] | None) -> None:
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"id2label={value!r:.80}: must be a dict of numbers and names.")
        vars(self)["id2label"] = None if value is None else {int(number): name for number, name in value.items()}

    @property
    def label2id(self) -> dict[str, int]:
        """Class names to numbers; the inverse of `id2label` if nobody set it."""
        found: dict[str, int] | None = vars(self).get("label2id")
        return {name: number for number, name in self.id2label.items()} if found is None else found

    @label2id.setter
    def label2id(self, value: dict[str, int] | None) -> None:
        vars(self)["label2id"] = value

    @property
    def num_labels(self) -> int:
        """How many classes `id2label` has."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != self.num_labels:
            self.id2label = {number: f"LABEL_{number}" for number in range(value)}
            self.label2id = None  # which makes it the inverse
