"""`BatchEncoding`, which processors return: named inputs of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Encoding

_Target = str | int | torch.device | torch.dtype | None


class BatchEncoding(dict[str, Any]):
    """A dict of inputs whose entries are attributes too, so that `model(**batch)` and `batch.input_ids` both work.

    Entries, if they were requested: `input_ids` (K, L) and `attention_mask` (K, L) of K texts of L tokens, int64;
    `pixel_values` (B, T, 3, H, W) of B videos of T frames, float32.

    Args:
        entries: the entries by name.
        encodings: encodings of the K texts by the `tokenizers` library, which `tokens`, `word_ids` and others need.

    Attributes:
        encodings: the given encodings, or None.
    """

    is_fast = True
    encodings: list[Encoding] | None

    def __init__(
        self, entries: Mapping[str, Any] | None = None, *, encodings: Sequence[Encoding] | None = None, **named: Any
    ) -> None:
        super().__init__(entries or {}, **named)
        vars(self)["encodings"] = None if encodings is None else list(encodings)  # an assignment would make an entry

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name!r} in this batch; it has {', '.join(self) or 'nothing'}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int):  # as in transformers
            return self._encoding(key)
        raise KeyError(key)

    def copy(self) -> BatchEncoding:
        """Return a batch of the same entries."""
        return BatchEncoding(self, encodings=self.encodings)

    @property
    def data(self) -> dict[str, Any]:
        """The entries as a dict."""
        return self

    # ------------------------------------------------------------------------------------------------ tokens

    def _encoding(self, index: int) -> Encoding:
        if self.encodings is None:
            raise ValueError("this batch was not made by a tokenizer, so it doesn't know the tokens of its texts")
        return self.encodings[index]

    def tokens(self, batch_index: int = 0) -> list[str]:
        """Return the tokens of a text, with special ones and padding; ValueError if the batch has no texts."""
        return list(self._encoding(batch_index).tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return the word's number for each token, None for special tokens; ValueError as for `tokens`."""
        return list(self._encoding(batch_index).word_ids)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """Return 0 (the text) or 1 (its pair) for each token, None for special tokens; ValueError as for `tokens`."""
        return list(self._encoding(batch_index).sequence_ids)

    def char_to_token(self, batch_or_char_index: int, char_index: int | None = None) -> int | None:
        """Return the number of a character's token: `(text, character)`, or `(character)` of the first text."""
        text, character = (0, batch_or_char_index) if char_index is None else (batch_or_char_index, char_index)
        token: int | None = self._encoding(text).char_to_token(character)
        return token

    # ------------------------------------------------------------------------------------------------ tensors

    def to(
        self, *targets: _Target, device: _Target = None, dtype: _Target = None, non_blocking: bool = False
    ) -> BatchEncoding:
        """Move every tensor of this batch to a device, and cast floating ones to a dtype, in place.

        Args:
            targets: a device, a dtype, or one of each, in any order.
            device: a device, also by its name or number.
            dtype: a dtype.
            non_blocking: don't wait for copies from pinned memory.

        Returns:
            The batch itself.

        Raises:
            TypeError: a target is neither a device nor a dtype.
        """
        to_device: torch.device | None = None
        to_dtype: torch.dtype | None = None
        for target in (*targets, device, dtype):
            if isinstance(target, torch.dtype):
                to_dtype = target
            elif isinstance(target, str | int | torch.device):
                to_device = torch.device(target)
            elif target is not None:
                raise TypeError(f"to() takes a device or a dtype, not {target!r}")
        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                new_dtype = to_dtype if value.is_floating_point() else None
                self[name] = value.to(device=to_device, dtype=new_dtype, non_blocking=non_blocking)
        return self

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Convert every entry of this batch to a tensor or an array, in place.

        Args:
            tensor_type: "pt" for tensors, "np" for arrays, None for neither.
            prepend_batch_axis: whether each entry is a single row.

        Returns:
            The batch itself.

        Raises:
            ValueError: the type is unknown, or the rows of an entry are of unequal length.
        """
        check_tensors(tensor_type)
        for name, value in self.items() if tensor_type else ():
            self[name] = convert_rows([value] if prepend_batch_axis else value, name, tensor_type)
        return self


def check_tensors(kind: str | None) -> None:
    """Raise a ValueError for a `return_tensors` other than "pt", "np" and None."""
    if kind not in ("pt", "np", None):
        raise ValueError(f'return_tensors={kind!r} is unknown: choose "pt" (torch), "np" (numpy) or None (lists)')


def convert_rows(rows: Any, name: str, kind: str | None) -> Any:
    """Convert rows to a tensor or an array; None leaves them unchanged. Whole numbers become int64.

    Args:
        rows: rows of numbers, of lists of numbers, or of tensors or arrays; or a tensor or an array.
        name: name of the entry, for the message.
        kind: "pt", "np" or None.

    Raises:
        ValueError: the rows are of unequal length and can't become a tensor.
    """
    if kind is None:
        return rows
    if isinstance(rows, torch.Tensor | np.ndarray):
        return torch.as_tensor(rows) if kind == "pt" else np.asarray(rows)
    lengths = {len(row) for row in rows if isinstance(row, Sequence)}
    if len(lengths) > 1:
        raise ValueError(
            f"{name} of {min(lengths)} to {max(lengths)} tokens can't be put in one tensor: "
            "pass padding=True (and truncation=True for texts that are too long)"
        )
    if len(rows) and all(isinstance(row, torch.Tensor) for row in rows):
        stacked = torch.stack(tuple(rows))
        return stacked if kind == "pt" else stacked.cpu().numpy()
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise ValueError(f"{name} can't be put in one tensor: its rows are of unequal sizes ({error})") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} can't be put in a tensor: it holds values that are not numbers")
    array = array.astype(np.int64) if array.dtype.kind in "iu" else array
    if kind == "pt" and array.dtype == np.float64 and not isinstance(rows[0], np.ndarray):
        array = array.astype(np.float32)  # as torch.tensor does for Python's numbers
    return torch.from_numpy(array) if kind == "pt" else array
