"""The vocabulary and special tokens of a tokenizer, and the decoding of ids to text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer

from openxclip.processing.vocab import END_OF_TEXT, END_OF_WORD, START_OF_TEXT

SPECIAL = {
    "bos_token": START_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "unk_token": END_OF_TEXT,
    "pad_token": END_OF_TEXT,
}
_ADDITIONAL = ("additional_special_tokens", "extra_special_tokens")  # of transformers 4 and 5


class TokenTable:
    """The part of the tokenizer that knows the vocabulary, and decodes."""

    bos_token: str
    eos_token: str
    unk_token: str
    pad_token: str
    additional_special_tokens: list[str]
    pad_token_type_id = 0
    _backend: Tokenizer

    # ------------------------------------------------------------------------------------------------ decoding

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """Return the text of a sequence of ids (a list, an array, a tensor, or a single id), with spaces between words.

        Args:
            token_ids: the ids; several sequences give a list of texts.
            skip_special_tokens: leave out start, end and padding.
            clean_up_tokenization_spaces: remove the space before punctuation and endings such as 's.
        """
        if hasattr(token_ids, "tolist"):
            token_ids = token_ids.tolist()
        if isinstance(token_ids, list | tuple) and token_ids and not isinstance(token_ids[0], int):
            return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in token_ids]
        ids = [token_ids] if isinstance(token_ids, int) else [int(token_id) for token_id in token_ids]
        text: str = self._backend.decode(ids, skip_special_tokens=skip_special_tokens)
        text = text.replace(END_OF_WORD, " ").strip()
        for ending in (".", "?", "!", ",", "'s", "n't", "'m", "'ve", "'re") if clean_up_tokenization_spaces else ():
            text = text.replace(f" {ending}", ending)
        return text

    def batch_decode(
        self,
        sequences: Iterable[Any],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> list[str]:
        """Return the text of each of several sequences of ids."""
        return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in sequences]

    def convert_ids_to_tokens(self, ids: int | Iterable[int], skip_special_tokens: bool = False) -> Any:
        """Return the token of an id, or a list of the tokens of several; None for an id that doesn't exist."""
        if isinstance(ids, int):
            return self._backend.id_to_token(ids)
        skipped = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._backend.id_to_token(int(number)) for number in ids if int(number) not in skipped]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """Return the id of a token, or a list of the ids of several; `unk_token_id` for a token that doesn't exist."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        number = self._backend.token_to_id(tokens)
        return self.unk_token_id if number is None else number

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens, with spaces between words."""
        text: str = self._backend.decoder.decode(list(tokens))
        return text.replace(END_OF_WORD, " ").strip()

    # ------------------------------------------------------------------------------------------------ vocabulary

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The underlying tokenizer of the `tokenizers` library."""
        return self._backend

    def get_vocab(self) -> dict[str, int]:
        """Return the ids by token, with added tokens."""
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def vocab(self) -> dict[str, int]:
        """The ids by token, with added tokens."""
        return self.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """Return the ids by token of special and added tokens, which are matched before all others."""
        added = self._backend.get_added_tokens_decoder()
        return {added[number].content: number for number in sorted(added)}

    @property
    def vocab_size(self) -> int:
        """Number of tokens without added ones; 49,408 for CLIP."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens to the vocabulary, with the next ids.

        Call `model.resize_token_embeddings(len(tokenizer))` afterwards.

        Args:
            new_tokens: a text or an `AddedToken` of the `tokenizers` library, or several of them.
            special_tokens: whether `decode(skip_special_tokens=True)` leaves them out.

        Returns:
            The number of tokens that were not added before.
        """
        tokens = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        return int((self._backend.add_special_tokens if special_tokens else self._backend.add_tokens)(tokens))

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any], **_: Any) -> int:
        """Set special tokens, and add the missing ones to the vocabulary.

        Args:
            special_tokens_dict: `bos_token`, `eos_token`, `unk_token`, `pad_token`, and a list of
                `additional_special_tokens`.

        Returns:
            The number of tokens that were added.

        Raises:
            ValueError: there is no such special token.
        """
        added = 0
        for name, value in special_tokens_dict.items():
            if name in _ADDITIONAL:
                added += self.add_tokens(list(value), special_tokens=True)
                self.additional_special_tokens = [content(token) for token in value]
            elif name in SPECIAL:
                added += self.add_tokens([value], special_tokens=True)
                setattr(self, name, content(value))
            else:
                raise ValueError(f"{name!r} is no special token: they are {', '.join((*SPECIAL, _ADDITIONAL[0]))}.")
        return added

    # ------------------------------------------------------------------------------------------------ special tokens

    @property
    def bos_token_id(self) -> int:
        """Id of the start of text."""
        return self._special_id(self.bos_token)

    @property
    def eos_token_id(self) -> int:
        """Id of the end of text."""
        return self._special_id(self.eos_token)

    @property
    def pad_token_id(self) -> int:
        """Id that shorter texts are padded with; CLIP's is its end of text."""
        return self._special_id(self.pad_token)

    @property
    def unk_token_id(self) -> int:
        """Id of characters that are not in the vocabulary."""
        return self._special_id(self.unk_token)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens by their role."""
        more = self.additional_special_tokens
        return {name: getattr(self, name) for name in SPECIAL} | ({_ADDITIONAL[0]: list(more)} if more else {})

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        return list(dict.fromkeys([*(getattr(self, name) for name in SPECIAL), *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens, each once."""
        return [self._special_id(token) for token in self.all_special_tokens]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return the number of special tokens of a text, or of a text with its pair."""
        return int(self._backend.num_special_tokens_to_add(pair))

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return the ids of a text, and of its pair if there is one, with start and end tokens."""
        start, end = self.bos_token_id, self.eos_token_id
        return [start, *token_ids_0, end] + ([] if token_ids_1 is None else [end, *token_ids_1, end])

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """Return 1 for each special token and 0 for others, after adding special tokens if the sequence has none."""
        if already_has_special_tokens:
            special = set(self.all_special_ids)
            return [int(token_id in special) for token_id in token_ids_0]
        pair = [] if token_ids_1 is None else [1, *(0 for _ in token_ids_1), 1]
        return [1, *(0 for _ in token_ids_0), 1, *pair]

    def _special_id(self, token: str) -> int:
        number: int | None = self._backend.token_to_id(token)
        if number is None:
            raise ValueError(f"the token {token!r} is not in the vocabulary")
        return number


def content(token: str | AddedToken | Mapping[str, Any]) -> str:
    """Return the text of a token in any of the forms of files and callers."""
    if isinstance(token, str):
        return token
    return str(token.content if isinstance(token, AddedToken) else token["content"])


def added_token(token: str | Mapping[str, Any]) -> AddedToken:
    """Return a token of a tokenizer_config.json for the library; special unless the file says otherwise."""
    if isinstance(token, str):
        return AddedToken(token, special=True, normalized=False)
    flags = {name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(token["content"], special=bool(token.get("special", True)), **flags)
