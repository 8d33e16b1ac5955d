"""From texts to token ids: special tokens, truncation, padding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Encoding

from openxclip.processing.batch import BatchEncoding, check_tensors, convert_rows
from openxclip.processing.tokens import TokenTable

_FILLING = {"attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}  # what `pad` puts in
#: Keyword arguments of a call that ask for more entries, or say what the texts are.
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
    """The part of the tokenizer that encodes.

    Attributes:
        model_max_length: tokens that a text is truncated or padded to if no length is given.
        padding_side, truncation_side: "right" or "left".
    """

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
        """Token ids of a text or of several.

        Args:
            text: one text, or K of them.
            text_pair: a second text, or K of them, each of which follows the first in one sequence.
            padding: True or "longest" pads to the longest text, "max_length" to `max_length`, False not at all.
            truncation: True or "longest_first" shortens texts to `max_length`, keeping the end-of-text token;
                "only_first" and "only_second" shorten only one of a pair; False doesn't. None doesn't either, unless
                `max_length` is given without padding (as in transformers).
            max_length: tokens, special ones included; `model_max_length` (77) if not given.
            add_special_tokens: put start of text before and end of text after.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            padding_side: "right" or "left"; the tokenizer's own if not given.
            is_split_into_words: a text is a list of words.
            return_attention_mask: add `attention_mask`, 1 for tokens and 0 for padding; None is True.
            return_token_type_ids: add `token_type_ids`, which are 0: CLIP has one type.
            return_special_tokens_mask: add `special_tokens_mask`, 1 for special tokens and padding.
            return_offsets_mapping: add `offset_mapping`, the first character of each token and the one after its last.
            return_length: add `length`, tokens of each text, padding included.
            return_tensors: "pt", "np", or None for lists (flat ones if `text` is one text).
            verbose: taken for transformers' sake.

        Returns:
            `input_ids` and `attention_mask` (K, L); what else is asked for: (K, L), offsets (K, L, 2), lengths (K,).

        Raises:
            TypeError: a text is not a str.
            ValueError: a text holds half of a surrogate pair, an argument is out of its range, or tensors are asked
                for and the texts have unequal lengths.
        """
        check_tensors(return_tensors)
        is_one = isinstance(text, str) or (is_split_into_words and bool(text) and isinstance(text[0], str))
        inputs = _inputs([text] if is_one else text, [text_pair] if is_one else text_pair, is_split_into_words)
        encodings = self._encoded(inputs, is_split_into_words, add_special_tokens)
        length = self.model_max_length if max_length is None else max_length
        strategy = _strategy(truncation, implied=max_length is not None and padding is False)
        if strategy:
            if length < (2 if add_special_tokens else 0):
                raise ValueError(f"max_length={length} leaves no room for start and end of text: it must be 2 or more")
            for number, one in enumerate(encodings):
                if len(one.ids) > length:
                    how = (length, strategy, is_split_into_words, add_special_tokens)
                    encodings[number] = self._truncated(inputs[number], *how)
        self._pad(encodings, _padded_width(padding, [len(one.ids) for one in encodings], length), pad_to_multiple_of,
                  padding_side or self.padding_side)  # fmt: skip
        wanted = {
            "input_ids": [one.ids for one in encodings],
            "token_type_ids": [one.type_ids for one in encodings] if return_token_type_ids else None,
            "attention_mask": [one.attention_mask for one in encodings] if return_attention_mask is not False else None,
            "special_tokens_mask": [one.special_tokens_mask for one in encodings]
            if return_special_tokens_mask
            else None,
            "offset_mapping": [one.offsets for one in encodings] if return_offsets_mapping else None,
            "length": [len(one.ids) for one in encodings] if return_length else None,
        }
        batch = BatchEncoding(encodings=encodings)
        for name, rows in wanted.items():
            if rows is not None:
                is_flat = is_one and return_tensors is None and name != "length"
                batch[name] = rows[0] if is_flat else convert_rows(rows, name, return_tensors)
        return batch

    def encode(self, text: Any, text_pair: Any = None, **options: Any) -> Any:
        """The `input_ids` of one text; options as for a call."""
        return self(text, text_pair, **options)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """As a call, by the name that transformers 4 has for one text."""
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Sequence[Any], **options: Any) -> BatchEncoding:
        """As a call, by the name that transformers 4 has for several texts, or pairs of them as tuples."""
        texts = list(batch_text_or_text_pairs)
        if texts and all(isinstance(one, tuple) and len(one) == 2 for one in texts):
            return self([one[0] for one in texts], [one[1] for one in texts], **options)
        return self(texts, **options)

    def tokenize(self, text: str, pair: str | None = None, *, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text as strings; a byte is shown as a visible character, and `</w>` ends a word."""
        (encoding,) = self._encoded(_inputs([text], [pair], False), False, add_special_tokens)
        return list(encoding.tokens)

    @property
    def max_len_single_sentence(self) -> int:
        """Tokens of a text, without special ones."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """Tokens of a text and its pair together, without special ones."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def _encoded(self, inputs: list[Any], is_split: bool, add_special_tokens: bool) -> list[Encoding]:
        encoded: list[Encoding] = self._backend.encode_batch(
            inputs, is_pretokenized=is_split, add_special_tokens=add_special_tokens
        )
        return encoded

    def _truncated(self, given: Any, length: int, strategy: str, is_split: bool, add_special_tokens: bool) -> Encoding:
        """A text, or a text and its pair, cut so that they are of that length with special tokens."""
        parts = list(given) if isinstance(given, tuple) else [given]
        encodings = self._encoded(parts, is_split, False)
        room = length - (self.num_special_tokens_to_add(pair=len(parts) == 2) if add_special_tokens else 0)
        for encoding, share in zip(
            encodings, _shares(strategy, [len(one.ids) for one in encodings], room), strict=True
        ):
            encoding.truncate(share, direction=self.truncation_side)
        first, second = encodings if len(encodings) == 2 else (encodings[0], None)
        return self._backend.post_process(first, second, add_special_tokens)

    def _pad(self, encodings: list[Encoding], width: int | None, multiple: int | None, side: str) -> None:
        if width is None:
            return
        width = -(-width // multiple) * multiple if multiple else width
        for encoding in encodings:
            encoding.pad(width, direction=side, pad_id=self.pad_token_id, pad_token=self.pad_token)

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
            encoded_inputs: a batch with `input_ids`; or one dict for each example. Entries that have nothing to do with
                tokens, such as labels and pixel values, are kept, and become tensors too.
            padding, max_length, pad_to_multiple_of, padding_side, return_tensors: as for a call.
            return_attention_mask: add `attention_mask` where there is none; None is True.
            verbose: taken for transformers' sake.

        Returns:
            `input_ids`, `attention_mask` (K, L), and the other entries.

        Raises:
            ValueError: there are no `input_ids`, or entries of unequal sizes can't become a tensor.
        """
        check_tensors(return_tensors)
        if isinstance(encoded_inputs, list | tuple):
            names = list(encoded_inputs[0]) if encoded_inputs else []
            encoded_inputs = {name: [one[name] for one in encoded_inputs] for name in names}
        if not isinstance(encoded_inputs, Mapping) or "input_ids" not in encoded_inputs:
            raise ValueError("there are no 'input_ids' to pad: give a batch of the tokenizer, or a list of such dicts")
        entries = {name: _as_lists(value) if _is_of_tokens(name) else value for name, value in encoded_inputs.items()}
        ids = entries["input_ids"]
        is_one = bool(ids) and isinstance(ids[0], int)
        if is_one:
            entries = {name: [value] for name, value in entries.items()}
        rows = entries["input_ids"]
        if return_attention_mask is not False and "attention_mask" not in entries:
            entries["attention_mask"] = [[1] * len(row) for row in rows]
        length = self.model_max_length if max_length is None else max_length
        width = _padded_width(padding, [len(row) for row in rows], length)
        if width is not None and pad_to_multiple_of:
            width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
        side = padding_side or self.padding_side
        for name in [name for name in entries if _is_of_tokens(name)] if width is not None else ():
            filling = _FILLING.get(name, self.pad_token_id)
            entries[name] = [_padded(row, filling, width or 0, side) for row in entries[name]]
        if is_one and return_tensors is None:
            return BatchEncoding({name: value[0] for name, value in entries.items()})
        return BatchEncoding({name: convert_rows(value, name, return_tensors) for name, value in entries.items()})


def _inputs(texts: Any, pairs: Any, is_split: bool) -> list[Any]:
    """What the library encodes: texts, or tuples of a text and its pair; TypeError or ValueError if they are none."""
    inputs = _checked(texts, is_split)
    if pairs is None or pairs == [None]:
        return inputs
    seconds = _checked(pairs, is_split, "text_pair")
    if len(seconds) != len(inputs):
        raise ValueError(f"{len(inputs)} texts have {len(seconds)} pairs: give one for each")
    return list(zip(inputs, seconds, strict=True))


def _checked(texts: Any, is_split: bool, name: str = "text") -> list[Any]:
    if not isinstance(texts, list | tuple):
        raise TypeError(f"{name} must be a str or a list of str, not {type(texts).__name__}")
    if not texts:
        raise ValueError(f"{name} is an empty list: there is nothing to encode")
    for number, one in enumerate(texts):
        words = one if is_split and isinstance(one, list | tuple) else [one]
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
    return [list(one) if isinstance(one, tuple) else one for one in texts]


def _shares(strategy: str, lengths: list[int], room: int) -> list[int]:
    """How many tokens are kept of a text, or of a text and its pair; both lose alike if neither is said to."""
    if len(lengths) == 1:
        return [room]
    first, second = lengths
    if strategy in ("only_first", "only_second"):
        shares = [room - second, second] if strategy == "only_first" else [first, room - first]
        if min(shares) < 1:
            raise ValueError(f"truncation={strategy!r}: the other text alone has more tokens than there is room for")
        return shares
    if sum(lengths) <= room:
        return lengths
    longer = max(min(lengths), room - min(lengths))
    shorter = min(lengths)
    if shorter + longer > room:
        shorter, longer = room // 2, room - room // 2
    return [longer, shorter] if first > second else [shorter, longer]


def _strategy(truncation: bool | str | None, *, implied: bool) -> str:
    """Which of two texts is cut; "" where none is."""
    if truncation is None:
        return "longest_first" if implied else ""
    if truncation in (True, "longest_first"):
        return "longest_first"
    if truncation in ("only_first", "only_second"):
        return str(truncation)
    if truncation in (False, "do_not_truncate"):
        return ""
    raise ValueError(f"truncation={truncation!r} is unknown: choose True or False")


def _padded_width(padding: bool | str, lengths: list[int], length: int) -> int | None:
    if padding in (True, "longest"):
        return max(lengths)
    if padding == "max_length":
        return length
    if padding in (False, "do_not_pad"):
        return None
    raise ValueError(f'padding={padding!r} is unknown: choose True, "longest", "max_length" or False')


def _padded(row: list[int], filling: int, width: int, side: str) -> list[int]:
    gap = [filling] * (width - len(row))
    return gap + row if side == "left" else row + gap


def _is_of_tokens(name: str) -> bool:
    return name == "input_ids" or name in _FILLING


def _as_lists(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_as_lists(one) for one in value] if isinstance(value, list | tuple) else value
