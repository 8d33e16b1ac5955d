"""Encode texts to token ids, with special tokens, truncation and padding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Encoding

from openxclip.processing.batch import BatchEncoding, check_tensors, convert_rows
from openxclip.processing.tokens import TokenTable

_PAD_VALUES = {"attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}
#: Keyword arguments of a call that request more entries, or describe the texts.
TEXT_OPTIONS = (
    "is_split_into_words",
    "padding_side",
    "return_length",
    "return_offsets_mapping",
    "return_special_tokens_mask",
    "return_token_type_ids",
    "text_pair",
)


class Encoder(TokenTable):
    """The part of the tokenizer that encodes."""

    model_max_length: int
    padding_side: str
    truncation_side: str

    def __call__(
        self,
        text: Any,
        text_pair: Any = None,
        *,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        is_split_into_words: bool = False,
        return_attention_mask: bool | None = True,
        return_token_type_ids: bool | None = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Encode a text, or several.

        Args:
            text: one text, or K texts.
            text_pair: a second text for each text, which follows it in one sequence.
            padding: True or "longest" pads to the longest text, "max_length" to `max_length`, False not at all.
            truncation: True or "longest_first" shortens texts to `max_length`, keeping the end-of-text token;
                "only_first" and "only_second" shorten only one of a pair; False shortens none. None is False, or True
                if `max_length` is given without padding (as in transformers).
            max_length: number of tokens, with special ones; default is `model_max_length` (77).
            add_special_tokens: add the start-of-text and end-of-text tokens.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            padding_side: "right" or "left"; default is the tokenizer's own.
            is_split_into_words: a text is a list of words.
            return_attention_mask: add `attention_mask`, 1 for tokens and 0 for padding; None is True.
            return_token_type_ids: add `token_type_ids`, which are all 0.
            return_special_tokens_mask: add `special_tokens_mask`, 1 for special tokens and padding.
            return_offsets_mapping: add `offset_mapping`, the first character of each token and the one after its last.
            return_length: add `length`, tokens of each text, padding included.
            return_tensors: "pt", "np", or None for lists (flat ones if `text` is one text).
            verbose: has no effect; transformers has it.

        Returns:
            `input_ids` and `attention_mask` (K, L), and the requested entries: offsets (K, L, 2), lengths (K,), others
            (K, L).

        Raises:
            TypeError: a text is not a str.
            ValueError: a text holds half of a surrogate pair, an argument is out of its range, or texts of unequal
                lengths can't become tensors.
        """
        check_tensors(return_tensors)
        is_one = isinstance(text, str) or (is_split_into_words and bool(text) and isinstance(text[0], str))
        inputs = _inputs([text] if is_one else text, [text_pair] if is_one else text_pair, is_split_into_words)
        encodings = self._encode_batch(inputs, is_split_into_words, add_special_tokens)
        length = self.model_max_length if max_length is None else max_length
        strategy = _strategy(truncation, implied=max_length is not None and padding is False)
        if strategy:
            if length < (2 if add_special_tokens else 0):
                raise ValueError(f"max_length={length} leaves no room for start and end of text: it must be 2 or more")
            for number, encoding in enumerate(encodings):
                if len(encoding.ids) > length:
                    encodings[number] = self._truncate(
                        inputs[number], length, strategy, is_split_into_words, add_special_tokens
                    )
        width = _padded_width(padding, [len(encoding.ids) for encoding in encodings], length, pad_to_multiple_of)
        if width is not None:
            side, pad_id, pad_token = padding_side or self.padding_side, self.pad_token_id, self.pad_token
            for encoding in encodings:
                encoding.pad(width, direction=side, pad_id=pad_id, pad_token=pad_token)
        rows: dict[str, list[Any]] = {"input_ids": [encoding.ids for encoding in encodings]}
        if return_token_type_ids:
            rows["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        if return_attention_mask is not False:
            rows["attention_mask"] = [encoding.attention_mask for encoding in encodings]
        if return_special_tokens_mask:
            rows["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
        if return_offsets_mapping:
            rows["offset_mapping"] = [encoding.offsets for encoding in encodings]
        if return_length:
            rows["length"] = [len(encoding.ids) for encoding in encodings]
        batch = BatchEncoding(encodings=encodings)
        for name, values in rows.items():
            is_flat = is_one and return_tensors is None and name != "length"
            batch[name] = values[0] if is_flat else convert_rows(values, name, return_tensors)
        return batch

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """Return the `input_ids` of one text; options as for a call."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Encode one text; transformers 4 has this name for a call."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Sequence[Any], **options: Any) -> BatchEncoding:
        """Encode several texts, or pairs of texts as tuples; transformers 4 has this name for a call."""
        texts = list(batch_text_or_text_pairs)
        if texts and all(isinstance(text, tuple) and len(text) == 2 for text in texts):
            return self([first for first, _ in texts], [second for _, second in texts], **options)
        return self(texts, **options)

    def tokenize(self, text: str, pair: str | None = None, *, add_special_tokens: bool = False) -> list[str]:
        """Return the tokens of a text as strings, with a visible character for each byte and `</w>` at a word's end."""
        (encoding,) = self._encode_batch(_inputs([text], [pair], False), False, add_special_tokens)
        return list(encoding.tokens)

    @property
    def max_len_single_sentence(self) -> int:
        """Maximum number of tokens of a text, without special ones."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """Maximum number of tokens of a text and its pair together, without special ones."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def _encode_batch(self, inputs: list[Any], is_split: bool, add_special_tokens: bool) -> list[Encoding]:
        encoded: list[Encoding] = self._backend.encode_batch(
            inputs, is_pretokenized=is_split, add_special_tokens=add_special_tokens
        )
        return encoded

    def _truncate(self, text: Any, length: int, strategy: str, is_split: bool, add_special_tokens: bool) -> Encoding:
        """Encode a text, or a text and its pair, cut to a length that includes special tokens."""
        parts = list(text) if isinstance(text, tuple) else [text]
        encodings = self._encode_batch(parts, is_split, False)
        room = length - (self.num_special_tokens_to_add(pair=len(parts) == 2) if add_special_tokens else 0)
        lengths = _truncated_lengths(strategy, [len(encoding.ids) for encoding in encodings], room)
        for encoding, new_length in zip(encodings, lengths, strict=True):
            encoding.truncate(new_length, direction=self.truncation_side)
        first, second = encodings if len(encodings) == 2 else (encodings[0], None)
        return self._backend.post_process(first, second, add_special_tokens)

    def pad(
        self,
        encoded_inputs: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
        verbose: bool = True,
    ) -> BatchEncoding:
        """Pad texts that are encoded already, as data collators do.

        Args:
            encoded_inputs: a batch with `input_ids`; or one dict for each example. Other entries, such as labels and
                pixel values, are kept, and become tensors too.
            padding, max_length, pad_to_multiple_of, padding_side, return_tensors: as for a call.
            return_attention_mask: add a missing `attention_mask`; None is True.
            verbose: has no effect; transformers has it.

        Returns:
            `input_ids`, `attention_mask` (K, L), and the other entries.

        Raises:
            ValueError: there are no `input_ids`, or entries of unequal sizes can't become a tensor.
        """
        check_tensors(return_tensors)
        if isinstance(encoded_inputs, list | tuple):
            names = list(encoded_inputs[0]) if encoded_inputs else []
            encoded_inputs = {name: [example[name] for example in encoded_inputs] for name in names}
        if not isinstance(encoded_inputs, Mapping) or "input_ids" not in encoded_inputs:
            raise ValueError("there are no 'input_ids' to pad: give a batch of the tokenizer, or a list of such dicts")
        entries = {name: _as_lists(value) if _has_tokens(name) else value for name, value in encoded_inputs.items()}
        ids = entries["input_ids"]
        is_one = bool(ids) and isinstance(ids[0], int)
        if is_one:
            entries = {name: [value] for name, value in entries.items()}
        rows = entries["input_ids"]
        if return_attention_mask is not False and "attention_mask" not in entries:
            entries["attention_mask"] = [[1] * len(row) for row in rows]
        length = self.model_max_length if max_length is None else max_length
        width = _padded_width(padding, [len(row) for row in rows], length, pad_to_multiple_of)
        if width is not None:
            side = padding_side or self.padding_side
            for name in filter(_has_tokens, list(entries)):
                value = _PAD_VALUES.get(name, self.pad_token_id)
                entries[name] = [_padded(row, value, width, side) for row in entries[name]]
        if is_one and return_tensors is None:
            return BatchEncoding({name: value[0] for name, value in entries.items()})
        return BatchEncoding({name: convert_rows(value, name, return_tensors) for name, value in entries.items()})


def _inputs(texts: Any, pairs: Any, is_split: bool) -> list[Any]:
    """Return texts, or tuples of a text and its pair, for the library; TypeError or ValueError if they are invalid."""
    inputs = _check_texts(texts, is_split)
    if pairs is None or pairs == [None]:
        return inputs
    seconds = _check_texts(pairs, is_split, "text_pair")
    if len(seconds) != len(inputs):
        raise ValueError(f"{len(inputs)} texts have {len(seconds)} pairs: give one for each")
    return list(zip(inputs, seconds, strict=True))


def _check_texts(texts: Any, is_split: bool, name: str = "text") -> list[Any]:
    if not isinstance(texts, list | tuple):
        raise TypeError(f"{name} must be a str or a list of str, not {type(texts).__name__}")
    if not texts:
        raise ValueError(f"{name} is an empty list: there is nothing to encode")
    for number, text in enumerate(texts):
        words = text if is_split and isinstance(text, list | tuple) else [text]
        for word in words:
            if not isinstance(word, str):
                raise TypeError(
                    f"{name} must be a str or a list of str, but {name} {number} is a {type(word).__name__}"
                )
            try:
                word.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"{name} {number} holds half of a surrogate pair at character {error.start}, which is no Unicode "
                    'text: decode it properly, or drop it with text.encode(errors="ignore").decode()'
                ) from error
    return [list(text) if isinstance(text, tuple) else text for text in texts]


def _truncated_lengths(strategy: str, lengths: list[int], room: int) -> list[int]:
    """Return how many tokens to keep of a text, or of a text and its pair.

    "longest_first" shortens the longer text to the length of the other, and then both equally.
    """
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    if strategy in ("only_first", "only_second"):
        kept = [room - second, second] if strategy == "only_first" else [first, room - first]
        if min(kept) < 1:
            raise ValueError(f"truncation={strategy!r}: the other text alone has more tokens than there is room for")
        return kept
    if sum(lengths) <= room:
        return lengths
    shorter = min(lengths)
    longer = max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return [longer, shorter] if first > second else [shorter, longer]


def _strategy(truncation: bool | str | None, *, implied: bool) -> str:
    """Return the name of the strategy; "" if nothing is truncated."""
    if truncation is None:
        return "longest_first" if implied else ""
    if truncation in (True, "longest_first"):
        return "longest_first"
    if truncation in ("only_first", "only_second"):
        return str(truncation)
    if truncation in (False, "do_not_truncate"):
        return ""
    raise ValueError(f"truncation={truncation!r} is unknown: choose True or False")


def _padded_width(padding: bool | str, lengths: list[int], max_length: int, multiple: int | None) -> int | None:
    """Return the number of tokens to pad texts to; None pads nothing."""
    if padding in (False, "do_not_pad"):
        return None
    if padding in (True, "longest"):
        width = max(lengths)
    elif padding == "max_length":
        width = max_length
    else:
        raise ValueError(f'padding={padding!r} is unknown: choose True, "longest", "max_length" or False')
    return math.ceil(width / multiple) * multiple if multiple else width


def _padded(row: list[int], value: int, width: int, side: str) -> list[int]:
    padding = [value] * (width - len(row))
    return padding + row if side == "left" else row + padding


def _has_tokens(name: str) -> bool:
    return name == "input_ids" or name in _PAD_VALUES


def _as_lists(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
