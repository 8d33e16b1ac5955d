"""The attributes that transformers gives every config, for client code that reads or sets them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

NAME = "_name_or_path"  # may be a local path, so it is never written into a config.json
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


def check_attention(implementation: Any) -> None:
    """Refuse unknown attention implementations. Known ones change nothing: PyTorch picks the kernel.

    Args:
        implementation: a name, a dict of names by part of the model, or None.

    Raises:
        ValueError: a name is unknown.
    """
    names = implementation.values() if isinstance(implementation, dict) else [implementation]
    for name in names:
        if name is not None and name not in _ATTENTION:
            raise ValueError(
                f"attn_implementation={name!r} is unknown; known are {', '.join(_ATTENTION)}, and all of them mean "
                "PyTorch's scaled_dot_product_attention here."
            )


class CommonAttributes:
    """Attributes with transformers' defaults, which are written into JSON only if they were set.

    Attributes:
        output_attentions, output_hidden_states: defaults for `forward`'s arguments of these names.
        return_dict: whether `forward` returns an object rather than a tuple by default.
        gradient_checkpointing: whether a model of this config enables gradient checkpointing.
        architectures: names of the classes that the weights belong to.
        id2label, label2id, num_labels: classes of a head that client code adds; no class here has one.
        dtype: torch.dtype of the weights in the folder, or None; `torch_dtype` is its older name.
        name_or_path: name from which the config was read; "" if it was not read.
    """

    # Not annotated, because subclasses are dataclasses and would take these as fields.
    output_attentions = False
    output_hidden_states = False
    return_dict = True
    gradient_checkpointing = False
    is_encoder_decoder = False
    architectures = None  # type: list[str] | None
    problem_type = None  # type: str | None

    @property
    def use_return_dict(self) -> bool:
        """`return_dict`, under transformers 4's name."""
        return bool(self.return_dict)

    @property
    def name_or_path(self) -> str:
        """Name from which the config was read; "" if it was not read."""
        return str(vars(self).get(NAME, ""))

    @name_or_path.setter
    def name_or_path(self, value: str | Path) -> None:
        vars(self)[NAME] = str(value)

    _name_or_path = name_or_path

    @property
    def _attn_implementation(self) -> str:
        """Always PyTorch's scaled_dot_product_attention, the only implementation."""
        return "sdpa"

    @_attn_implementation.setter
    def _attn_implementation(self, value: Any) -> None:
        check_attention(value)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the attributes, as in transformers."""
        return iter(vars(self))

    @property
    def dtype(self) -> torch.dtype | None:
        """The torch.dtype of the weights in the folder; None if it is unknown."""
        name = vars(self).get("dtype")
        if name is None:
            return None
        import torch  # here, because configs are read without PyTorch

        dtype = getattr(torch, str(name), None)
        return dtype if isinstance(dtype, torch.dtype) else None

    @dtype.setter
    def dtype(self, value: torch.dtype | str | None) -> None:
        vars(self)["dtype"] = None if value is None else str(value).removeprefix("torch.")

    torch_dtype = dtype  # the older name

    @property
    def id2label(self) -> dict[int, str]:
        """Class names by number; by default two classes, as in transformers."""
        labels: dict[int, str] | None = vars(self).get("id2label")
        return {0: "LABEL_0", 1: "LABEL_1"} if labels is None else labels

    @id2label.setter
    def id2label(self, value: dict[Any, str] | None) -> None:
        if value is not None and not isinstance(value, dict):
            raise ValueError(f"id2label={value!r:.80}: must be a dict of numbers and names.")
        vars(self)["id2label"] = None if value is None else {int(number): name for number, name in value.items()}

    @property
    def label2id(self) -> dict[str, int]:
        """Class numbers by name; by default the inverse of `id2label`."""
        numbers: dict[str, int] | None = vars(self).get("label2id")
        return {name: number for number, name in self.id2label.items()} if numbers is None else numbers

    @label2id.setter
    def label2id(self, value: dict[str, int] | None) -> None:
        vars(self)["label2id"] = value

    @property
    def num_labels(self) -> int:
        """The number of classes in `id2label`."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != self.num_labels:
            self.id2label = {number: f"LABEL_{number}" for number in range(value)}
            self.label2id = None  # the inverse of id2label again
