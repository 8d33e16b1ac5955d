"""The tokens of a tokenizer: its vocabulary, special tokens, and the way back from ids to text."""

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
_MORE = ("additional_special_tokens", "extra_special_tokens")  # of transformers 4 and 5


class TokenTable:
    """Base of the tokenizer.

    Attributes:
        bos_token, eos_token, unk_token, pad_token: the special tokens; `bos_token_id` etc. are their ids.
        additional_special_tokens: others that were added.
    """

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
        """The text of one sequence of ids (a list, an array, a tensor, or a single id), words separated by spaces.

        Args:
            token_ids: the ids; several sequences give a list of texts.
            skip_special_tokens: leave start, end and padding out.
            clean_up_tokenization_spaces: True takes the space before punctuation and endings such as 's away.
        """
        if hasattr(token_ids, "tolist"):
            token_ids = token_ids.tolist()
        if isinstance(token_ids, list | tuple) and token_ids and not isinstance(token_ids[0], int):
            return [self.decode(ids, skip_special_tokens, clean_up_tokenization_spaces) for ids in token_ids]
        ids = [token_ids] if isinstance(token_ids, int) else [int(one) for one in token_ids]
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
        """The text of each of several sequences of ids."""
        return [self.decode(one, skip_special_tokens, clean_up_tokenization_spaces) for one in sequences]

    def convert_ids_to_tokens(self, ids: int | Iterable[int], skip_special_tokens: bool = False) -> Any:
        """The token of an id as a str, or those of several as a list; None for an id that doesn't exist."""
        if isinstance(ids, int):
            return self._backend.id_to_token(ids)
        left_out = set(self.all_special_ids) if skip_special_tokens else set()
        return [self._backend.id_to_token(int(one)) for one in ids if int(one) not in left_out]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """The id of a token, or those of several as a list; `unk_token_id` for a token that doesn't exist."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        number = self._backend.token_to_id(tokens)
        return self.unk_token_id if number is None else number

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens, words separated by spaces."""
        text: str = self._backend.decoder.decode(list(tokens))
        return text.replace(END_OF_WORD, " ").strip()

    # ------------------------------------------------------------------------------------------------ vocabulary

    @property
    def backend_tokenizer(self) -> Tokenizer:
        """The tokenizer of the `tokenizers` library that does the work."""
        return self._backend

    def get_vocab(self) -> dict[str, int]:
        """Token → id, added tokens included."""
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def vocab(self) -> dict[str, int]:
        """Token → id, added tokens included."""
        return self.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """Token → id of the tokens that are looked for before all others: special ones and those that were added."""
        added = self._backend.get_added_tokens_decoder()
        return {added[number].content: number for number in sorted(added)}

    @property
    def vocab_size(self) -> int:
        """Tokens without those added to the vocabulary; 49,408 for CLIP."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def __bool__(self) -> bool:
        return True

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """Add tokens to the vocabulary, with the next ids.

        A model has rows for them after `model.resize_token_embeddings(len(tokenizer))`.

        Args:
            new_tokens: a text or an `AddedToken` of the `tokenizers` library, or several of them.
            special_tokens: whether `decode(skip_special_tokens=True)` leaves them out.

        Returns:
            How many were not looked for before all others yet.
        """
        tokens = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        return int((self._backend.add_special_tokens if special_tokens else self._backend.add_tokens)(tokens))

    def add_special_tokens(self, special_tokens_dict: Mapping[str, Any], **_: Any) -> int:
        """Set special tokens, and add those to the vocabulary that it hasn't.

        Args:
            special_tokens_dict: `bos_token`, `eos_token`, `unk_token`, `pad_token`, and a list of
                `additional_special_tokens`.

        Returns:
            How many were not there yet.

        Raises:
            ValueError: there is no such special token.
        """
        added = 0
        for name, value in special_tokens_dict.items():
            if name in _MORE:
                added += self.add_tokens(list(value), special_tokens=True)
                self.additional_special_tokens = [content(token) for token in value]
            elif name in SPECIAL:
                added += self.add_tokens([value], special_tokens=True)
                setattr(self, name, content(value))
            else:
                raise ValueError(f"{name!r} is no special token: they are {', '.join((*SPECIAL, _MORE[0]))}.")
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
        """Id of what is not in the vocabulary."""
        return self._special_id(self.unk_token)

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """The special tokens by what they are for."""
        more = self.additional_special_tokens
        return {name: getattr(self, name) for name in SPECIAL} | ({_MORE[0]: list(more)} if more else {})

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        return list(dict.fromkeys([*(getattr(self, name) for name in SPECIAL), *self.additional_special_tokens]))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens, each once."""
        return [self._special_id(token) for token in self.all_special_tokens]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many special tokens a text gets, or a text and its pair together."""
        return int(self._backend.num_special_tokens_to_add(pair))

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Ids of a text, and of its pair if there is one, with start and end round each."""
        start, end = self.bos_token_id, self.eos_token_id
        return [start, *token_ids_0, end] + ([] if token_ids_1 is None else [end, *token_ids_1, end])

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """1 for each special token of a sequence and 0 for the others; as if they were added, if they aren't there."""
        if already_has_special_tokens:
            special = set(self.all_special_ids)
            return [int(one in special) for one in token_ids_0]
        pair = [] if token_ids_1 is None else [1, *(0 for _ in token_ids_1), 1]
        return [1, *(0 for _ in token_ids_0), 1, *pair]

    def _special_id(self, token: str) -> int:
        number: int | None = self._backend.token_to_id(token)
        if number is None:
            raise ValueError(f"the token {token!r} is not in the vocabulary")
        return number


def content(token: str | AddedToken | Mapping[str, Any]) -> str:
    """The text of a token in any of the forms that files and callers have it in."""
    if isinstance(token, str):
        return token
    return str(token.content if isinstance(token, AddedToken) else token["content"])


def added_token(token: str | Mapping[str, Any]) -> AddedToken:
    """A token of a tokenizer_config.json as the library takes it; special unless the file says otherwise."""
    if isinstance(token, str):
        return AddedToken(token, special=True, normalized=False)
    flags = {name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(token["content"], special=bool(token.get("special", True)), **flags)
