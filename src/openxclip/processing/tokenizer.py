"""CLIP's tokenizer: byte-level byte-pair encoding of lower-cased text (Radford et al., 2021, section 2.4)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, processors

from openxclip.errors import CheckpointError
from openxclip.hub import read_json, resolve_folder
from openxclip.processing.batch import BatchEncoding, check_tensors, convert_rows
from openxclip.processing.bpe import byte_pair_tokenizer, read_merges, read_tokenizer
from openxclip.processing.vocab import END_OF_TEXT, END_OF_WORD, START_OF_TEXT, clip_merges, clip_vocabulary

CONTEXT_LENGTH = 77  # positions of CLIP's text transformer
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")

_SPECIAL = {
    "bos_token": START_OF_TEXT,
    "eos_token": END_OF_TEXT,
    "unk_token": END_OF_TEXT,
    "pad_token": END_OF_TEXT,
}
# A folder that knows no limit is saved with 10^30 by transformers; a real one is far below this.
_NO_LIMIT = 1_000_000


class CLIPTokenizer:
    """Text to token ids and back, with the ids of CLIP's released tokenizer.

    Args:
        vocab_file: a `vocab.json`, together with `merges_file`; without any file, CLIP's own vocabulary is taken.
        merges_file: a `merges.txt`.
        tokenizer_file: a `tokenizer.json`, instead of the other two.
        config: the content of a `tokenizer_config.json`: special tokens and `model_max_length`; keys that mean nothing
            here are kept for saving.

    Attributes:
        bos_token, eos_token, unk_token, pad_token: the special tokens; `bos_token_id` etc. are their ids.
        model_max_length: tokens that a text is truncated or padded to if no length is given, 77 unless the
            configuration has another.
    """

    model_input_names = ("input_ids", "attention_mask")
    padding_side = "right"
    is_fast = True

    def __init__(
        self,
        vocab_file: str | Path | None = None,
        merges_file: str | Path | None = None,
        *,
        tokenizer_file: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._config = dict(config or {})
        special = {name: self._config.get(name) or default for name, default in _SPECIAL.items()}
        self.bos_token = _content(special["bos_token"])
        self.eos_token = _content(special["eos_token"])
        self.unk_token = _content(special["unk_token"])
        self.pad_token = _content(special["pad_token"])
        limit = self._config.get("model_max_length") or CONTEXT_LENGTH
        self.model_max_length = int(limit) if limit < _NO_LIMIT else CONTEXT_LENGTH

        if tokenizer_file is not None:
            self._backend = read_tokenizer(Path(tokenizer_file))
        elif vocab_file is not None and merges_file is not None:
            vocabulary, merges = read_json(Path(vocab_file)), read_merges(Path(merges_file))
            self._backend = byte_pair_tokenizer(vocabulary, merges, unk_token=self.unk_token)
        elif vocab_file is None and merges_file is None:
            merges = clip_merges()
            self._backend = byte_pair_tokenizer(clip_vocabulary(merges), merges, unk_token=self.unk_token)
        else:
            given, missing = ("vocab_file", "merges_file") if vocab_file else ("merges_file", "vocab_file")
            raise ValueError(f"{given} is given without {missing}: one vocabulary is both")
        # What tokenizer.json says of a token (whether it is found before or after lower-casing) holds.
        known = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        self._backend.add_special_tokens(
            [_added_token(token) for token in special.values() if _content(token) not in known]
        )
        if tokenizer_file is None:
            self._backend.post_processor = processors.RobertaProcessing(
                (self.eos_token, self.eos_token_id), (self.bos_token, self.bos_token_id), False, False
            )

    # ------------------------------------------------------------------------------------------------ folders

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **hub: Any) -> CLIPTokenizer:
        """The tokenizer of a model folder: its tokenizer.json, else vocab.json and merges.txt, else CLIP's own.

        Args:
            pretrained_model_name_or_path: a local folder, a shipped model or a hub id.
            hub: as `openxclip.hub.resolve_folder` takes them (revision, cache_dir, local_files_only, token, …).

        Raises:
            CheckpointError: there is no such folder, or a file in it can't be read.
        """
        hub.pop("trust_remote_code", None)  # none is ever run
        hub.pop("use_fast", None)  # transformers 4's choice between two tokenizers; there is one here
        folder = resolve_folder(pretrained_model_name_or_path, **{"allow_patterns": TOKENIZER_FILES, **hub})
        config_file = folder / "tokenizer_config.json"
        config = read_json(config_file) if config_file.is_file() else None
        if (folder / "tokenizer.json").is_file():
            return cls(tokenizer_file=folder / "tokenizer.json", config=config)
        vocab_file, merges_file = folder / "vocab.json", folder / "merges.txt"
        found = [path for path in (vocab_file, merges_file) if path.is_file()]
        if len(found) == 1:
            missing = merges_file if found == [vocab_file] else vocab_file
            raise CheckpointError(f"{folder}: has {found[0].name} but no {missing.name}; a tokenizer needs both.")
        return cls(vocab_file, merges_file, config=config) if found else cls(config=config)

    def save_pretrained(self, save_directory: str | Path, *, processor_class: str | None = None) -> tuple[str, ...]:
        """Write tokenizer.json, vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json.

        Args:
            save_directory: the folder, made if it doesn't exist.
            processor_class: name of the processor that this tokenizer belongs to, for Auto classes.

        Returns:
            The paths of the files.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        serialised = json.loads(self._backend.to_str())
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in serialised["model"]["merges"]]
        special = {name: getattr(self, name) for name in _SPECIAL}
        config = {
            "tokenizer_class": "CLIPTokenizer",
            **self._config,
            **special,
            "model_max_length": self.model_max_length,
        }
        if processor_class is not None:
            config["processor_class"] = processor_class
        vocabulary = dict(sorted(self._backend.get_vocab(with_added_tokens=False).items(), key=lambda item: item[1]))
        texts = {
            "tokenizer.json": self._backend.to_str(pretty=True),
            "vocab.json": json.dumps(vocabulary, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
            "tokenizer_config.json": json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
            "special_tokens_map.json": json.dumps(special, indent=2, ensure_ascii=False) + "\n",
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
        return tuple(str(folder / name) for name in texts)

    # ------------------------------------------------------------------------------------------------ encoding

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool = True,
        return_tensors: str | None = None,
    ) -> BatchEncoding:
        """Token ids of a text or of several.

        Args:
            text: one text, or K of them.
            padding: True or "longest" pads to the longest text, "max_length" to `max_length`, False not at all.
            truncation: True shortens texts to `max_length`, keeping the end-of-text token; False doesn't. None
                doesn't either, unless `max_length` is given without padding (as in transformers).
            max_length: tokens, special ones included; `model_max_length` (77) if not given.
            add_special_tokens: put start of text before and end of text after.
            pad_to_multiple_of: round the padded length up to a multiple of this.
            return_attention_mask: add `attention_mask`, 1 for tokens and 0 for padding.
            return_tensors: "pt", "np", or None for lists (a flat one if `text` is one text).

        Returns:
            `input_ids` (K, L) and `attention_mask` (K, L).

        Raises:
            TypeError: a text is not a str.
            ValueError: a text holds half of a surrogate pair, an argument is out of its range, or tensors are asked
                for and the texts have unequal lengths.
        """
        check_tensors(return_tensors)
        rows = self._ids(text, add_special_tokens)
        length = self.model_max_length if max_length is None else max_length
        if _truncates(truncation, implied=max_length is not None and padding is False):
            rows = [self._truncated(row, length, add_special_tokens) for row in rows]
        masks = [[1] * len(row) for row in rows]
        if (width := _padded_width(padding, rows, length)) is not None:
            if pad_to_multiple_of:
                width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
            pad = self.pad_token_id
            rows = [self._padded(row, pad, width) for row in rows]
            masks = [self._padded(mask, 0, width) for mask in masks]
        flat = isinstance(text, str) and return_tensors is None
        batch = BatchEncoding()
        for name, values in (("input_ids", rows), ("attention_mask", masks)):
            if name == "input_ids" or return_attention_mask:
                batch[name] = values[0] if flat else convert_rows(values, name, return_tensors)
        return batch

    def encode(self, text: str, **options: Any) -> Any:
        """The `input_ids` of one text; options as for a call."""
        return self(text, **options)["input_ids"]

    def tokenize(self, text: str, *, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text as strings; a byte is shown as a visible character, and `</w>` ends a word."""
        (row,) = self._ids(text, add_special_tokens)
        return [str(self._backend.id_to_token(number)) for number in row]

    def _ids(self, text: str | Sequence[str], add_special_tokens: bool) -> list[list[int]]:
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, list | tuple):
            raise TypeError(f"text must be a str or a list of str, not {type(text).__name__}")
        if not texts:
            raise ValueError("text is an empty list: there is nothing to encode")
        for number, one in enumerate(texts):
            if not isinstance(one, str):
                raise TypeError(f"text must be a str or a list of str, but text {number} is a {type(one).__name__}")
            try:
                one.encode()
            except UnicodeEncodeError as error:
                raise ValueError(
                    f"text {number} holds half of a surrogate pair at character {error.start}, which is no Unicode "
                    'text: decode it properly, or drop it with text.encode(errors="ignore").decode()'
                ) from error
        encodings = self._backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return [list(encoding.ids) for encoding in encodings]

    def _padded(self, row: list[int], filling: int, width: int) -> list[int]:
        gap = [filling] * (width - len(row))
        return gap + row if self.padding_side == "left" else row + gap

    def _truncated(self, row: list[int], length: int, add_special_tokens: bool) -> list[int]:
        shortest = 2 if add_special_tokens else 0
        if length < shortest:
            raise ValueError(f"max_length={length} leaves no room for start and end of text: it must be 2 or more")
        if len(row) <= length:
            return row
        return [*row[: length - 1], row[-1]] if add_special_tokens else row[:length]

    # ------------------------------------------------------------------------------------------------ decoding

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> str:
        """The text of one sequence of ids (a list, an array, a tensor, or a single id), words separated by spaces."""
        text: str = self._backend.decode(_as_ids(token_ids), skip_special_tokens=skip_special_tokens)
        return text.replace(END_OF_WORD, " ").strip()

    def batch_decode(self, sequences: Iterable[Any], *, skip_special_tokens: bool = False) -> list[str]:
        """The text of each of several sequences of ids."""
        return [self.decode(sequence, skip_special_tokens=skip_special_tokens) for sequence in sequences]

    def convert_ids_to_tokens(self, ids: int | Iterable[int]) -> Any:
        """The token of an id as a str, or those of several as a list; None for an id that doesn't exist."""
        if isinstance(ids, int):
            return self._backend.id_to_token(ids)
        return [self._backend.id_to_token(int(one)) for one in ids]

    def convert_tokens_to_ids(self, tokens: str | Iterable[str]) -> Any:
        """The id of a token, or those of several as a list; `unk_token_id` for a token that doesn't exist."""
        if not isinstance(tokens, str):
            return [self.convert_tokens_to_ids(token) for token in tokens]
        number = self._backend.token_to_id(tokens)
        return self.unk_token_id if number is None else number

    # ------------------------------------------------------------------------------------------------ vocabulary

    def get_vocab(self) -> dict[str, int]:
        """Token → id, added tokens included."""
        vocabulary: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return vocabulary

    @property
    def vocab_size(self) -> int:
        """Tokens without those added to the vocabulary; 49,408 for CLIP."""
        return int(self._backend.get_vocab_size(with_added_tokens=False))

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    def __bool__(self) -> bool:
        return True

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
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        return list(dict.fromkeys(getattr(self, name) for name in _SPECIAL))

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the special tokens, each once."""
        return [self._special_id(token) for token in self.all_special_tokens]

    def _special_id(self, token: str) -> int:
        number: int | None = self._backend.token_to_id(token)
        if number is None:
            raise ValueError(f"the token {token!r} is not in the vocabulary")
        return number


def _content(token: str | Mapping[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _added_token(token: str | Mapping[str, Any]) -> AddedToken:
    if isinstance(token, str):
        return AddedToken(token, special=True, normalized=False)
    flags = {name: bool(token.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "normalized")}
    return AddedToken(token["content"], special=True, **flags)


def _truncates(truncation: bool | str | None, *, implied: bool) -> bool:
    if truncation is None:
        return implied
    if truncation in (True, "longest_first", "only_first"):
        return True
    if truncation in (False, "do_not_truncate"):
        return False
    raise ValueError(f"truncation={truncation!r} is unknown: choose True or False")


def _padded_width(padding: bool | str, rows: list[list[int]], length: int) -> int | None:
    if padding in (True, "longest"):
        return max(map(len, rows))
    if padding == "max_length":
        return length
    if padding in (False, "do_not_pad"):
        return None
    raise ValueError(f'padding={padding!r} is unknown: choose True, "longest", "max_length" or False')


def _as_ids(token_ids: Any) -> list[int]:
    if hasattr(token_ids, "tolist"):
        token_ids = token_ids.tolist()
    return [token_ids] if isinstance(token_ids, int) else [int(one) for one in token_ids]
