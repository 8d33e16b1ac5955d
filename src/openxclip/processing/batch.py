"""What a processor returns: named inputs of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Encoding

Tensors = Literal["pt", "np"]


class BatchEncoding(dict[str, Any]):
    """A dict of inputs whose entries are attributes too, so that `model(**batch)` and `batch.input_ids` both work.

    Entries (each present if it was asked for): `input_ids` (K, L) and `attention_mask` (K, L) of K texts of L tokens,
    int64; `pixel_values` (B, T, 3, H, W) of B videos of T frames, float32.

    Args:
        entries: by name.
        encodings: of the K texts, as the `tokenizers` library made them; `tokens`, `word_ids` and the like need them.
    """

    is_fast = True

    def __init__(
        self, entries: Mapping[str, Any] | None = None, *, encodings: Sequence[Encoding] | None = None, **named: Any
    ) -> None:
        super().__init__(entries or {}, **named)
        self.keep_encodings(encodings)

    def keep_encodings(self, encodings: Sequence[Encoding] | None) -> None:
        """Set what `tokens`, `word_ids` and the like are told from."""
        object.__setattr__(self, "_encodings", None if encodings is None else list(encodings))

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
        """A batch of the same entries."""
        return BatchEncoding(self, encodings=self.encodings)

    @property
    def data(self) -> dict[str, Any]:
        """The entries as a dict."""
        return self

    # ------------------------------------------------------------------------------------------------ tokens

    @property
    def encodings(self) -> list[Encoding] | None:
        """The texts as the `tokenizers` library encoded them; None where the batch has none."""
        encodings: list[Encoding] | None = vars(self).get("_encodings")
        return encodings

    def _encoding(self, index: int) -> Encoding:
        if self.encodings is None:
            raise ValueError("this batch was not made by a tokenizer, so it doesn't know the tokens of its texts")
        return self.encodings[index]

    def tokens(self, batch_index: int = 0) -> list[str]:
        """The tokens of a text, special ones and padding included; ValueError if the batch has no texts."""
        return list(self._encoding(batch_index).tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token of a text the number of its word, None for special tokens; ValueError as for `tokens`."""
        return list(self._encoding(batch_index).word_ids)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """For each token 0 or 1, the text or its pair; None for special tokens; ValueError as for `tokens`."""
        return list(self._encoding(batch_index).sequence_ids)

    def char_to_token(self, batch_or_char_index: int, char_index: int | None = None) -> int | None:
        """The number of the token that a character is in: `(text, character)`, or `(character)` of the only text."""
        at = (0, batch_or_char_index) if char_index is None else (batch_or_char_index, char_index)
        token: int | None = self._encoding(at[0]).char_to_token(at[1])
        return token

    # ------------------------------------------------------------------------------------------------ tensors

    def to(
        self, *targets: str | int | torch.device | torch.dtype, non_blocking: bool = False, **named: Any
    ) -> BatchEncoding:
        """Move every tensor to a device and cast the floating ones to a dtype, here and not in a copy.

        Args:
            targets: a device, a dtype, or one of each, in any order.
            non_blocking: don't wait for copies from pinned memory.
            named: `device=` and `dtype=`, the same by name.

        Returns:
            The batch itself.

        Raises:
            TypeError: a target is neither a device nor a dtype.
        """
        if unknown := named.keys() - {"device", "dtype"}:
            raise TypeError(f"to() has no argument {sorted(unknown)[0]!r}: it takes device and dtype")
        device: torch.device | None = None
        dtype: torch.dtype | None = None
        for target in (*targets, *named.values()):
            if isinstance(target, torch.dtype):
                dtype = target
            elif isinstance(target, str | int | torch.device):
                device = torch.device(target)
            elif target is not None:
                raise TypeError(f"to() takes a device or a dtype, not {target!r}")
        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                own = dtype if value.is_floating_point() else None
                self[name] = value.to(device=device, dtype=own, non_blocking=non_blocking)
        return self

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> BatchEncoding:
        """Make every entry a tensor or an array, here and not in a copy.

        Args:
            tensor_type: "pt" for tensors, "np" for arrays, None for neither.
            prepend_batch_axis: make each the only row of a batch.

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
    """Refuse a `return_tensors` other than "pt", "np" and None with a ValueError."""
    if kind not in ("pt", "np", None):
        raise ValueError(f'return_tensors={kind!r} is unknown: choose "pt" (torch), "np" (numpy) or None (lists)')


def convert_rows(rows: Any, name: str, kind: str | None) -> Any:
    """Rows as a tensor, an array, or as they are for None; whole numbers become int64.

    Args:
        rows: of numbers, of lists of numbers, or of tensors or arrays; or a tensor or an array.
        name: of the entry, for the message.
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
        raise ValueError(f"{name} can't be put in a tensor: it holds other things than numbers")
    array = array.astype(np.int64) if array.dtype.kind in "iu" else array
    if kind == "pt" and array.dtype == np.float64 and not isinstance(rows[0], np.ndarray):
        array = array.astype(np.float32)  # Python's numbers, as torch.tensor makes them
    return torch.from_numpy(array) if kind == "pt" else array
