"""Texts that are longer than the model reads: said by name, and told from each other by what is left of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from openxclip.processing.tokenizer import CLIPTokenizer

_SHOWN = 60  # characters of a long text


def warn_of_cuts(tokenizer: CLIPTokenizer, texts: Sequence[str], what: str = "text", *, stacklevel: int = 2) -> None:
    """Warn of texts with more tokens than the model has positions for.

    Args:
        tokenizer: of the model.
        texts: one or more.
        what: they are called: "label", "caption".
        stacklevel: as of `warnings.warn`, counted from the caller.
    """
    limit = tokenizer.model_max_length
    lengths = [len(row) for row in tokenizer(list(texts))["input_ids"]]
    long = [i for i, length in enumerate(lengths) if length > limit]
    if long:
        more = len(long) - 1
        warnings.warn(
            f"the {what} {_short(texts[long[0]])} has {lengths[long[0]]} tokens, but the model reads {limit}: what "
            f"comes after them is ignored{f', also in {more} more' if more else ''}.",
            stacklevel=stacklevel + 1,
        )


def check_distinct(tokenizer: CLIPTokenizer, texts: Sequence[str], what: str = "label") -> None:
    """Refuse texts that are the same to the model: it doesn't see capitals, and reads only so many tokens.

    Args:
        tokenizer: of the model.
        texts: one or more, each of which is to be told from the others.
        what: they are called.

    Raises:
        ValueError: two of them are the same; both are named.
    """
    limit = tokenizer.model_max_length
    first: dict[tuple[int, ...], int] = {}
    whole = tokenizer(list(texts))["input_ids"]
    for i, row in enumerate(tokenizer(list(texts), truncation=True)["input_ids"]):
        other = first.setdefault(tuple(row), i)
        if other != i:
            is_cut = len(whole[i]) > limit
            why = f"only up to {limit} tokens" if is_cut else "without regard to capitals and spaces"
            raise ValueError(
                f"the {what}s {_short(texts[other])} and {_short(texts[i])} are the same to the model, which reads "
                f"texts {why}: make them differ{' earlier' if is_cut else ''}, or leave one out."
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}")
