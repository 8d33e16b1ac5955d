"""Warn of texts that are longer than the model reads, and refuse texts that the model can't tell apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from openxclip.processing.tokenizer import CLIPTokenizer

_SHOWN = 60  # characters of a long text


def warn_of_cuts(tokenizer: CLIPTokenizer, texts: Sequence[str], what: str = "text", *, stacklevel: int = 2) -> None:
    """Warn of texts with more tokens than the model has positions for.

    Args:
        tokenizer: the model's tokenizer.
        texts: one or more texts.
        what: word for a text in the warning, such as "label" or "caption".
        stacklevel: as for `warnings.warn`, counted from the caller.
    """
    limit = tokenizer.model_max_length
    lengths = [len(row) for row in tokenizer(list(texts))["input_ids"]]
    long = [i for i, length in enumerate(lengths) if length > limit]
    if long:
        more = len(long) - 1
        warnings.warn(
            f"the {what} {_short(texts[long[0]])} has {lengths[long[0]]} tokens, but the model reads {limit}: the "
            f"rest is ignored{f', also in {more} more' if more else ''}.",
            stacklevel=stacklevel + 1,
        )


def check_distinct(tokenizer: CLIPTokenizer, texts: Sequence[str], what: str = "label") -> None:
    """Refuse texts that are the same to the model, which ignores capitals and reads a limited number of tokens.

    Args:
        tokenizer: the model's tokenizer.
        texts: one or more texts.
        what: word for a text in the message.

    Raises:
        ValueError: two texts are the same; the message names both.
    """
    limit = tokenizer.model_max_length
    first: dict[tuple[int, ...], int] = {}
    uncut = tokenizer(list(texts))["input_ids"]
    for i, row in enumerate(tokenizer(list(texts), truncation=True)["input_ids"]):
        other = first.setdefault(tuple(row), i)
        if other != i:
            is_cut = len(uncut[i]) > limit
            why = f"only up to {limit} tokens" if is_cut else "without regard to capitals and spaces"
            raise ValueError(
                f"the {what}s {_short(texts[other])} and {_short(texts[i])} are the same to the model, which reads "
                f"texts {why}: make them differ{' earlier' if is_cut else ''}, or leave one out."
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}")
