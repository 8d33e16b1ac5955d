"""CLIP's tokenizer: byte-level byte-pair encoding of lower-cased text (Radford et al., 2021, section 2.4)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import processors

from openxclip.errors import CheckpointError
from openxclip.hub import read_json, resolve_folder, save_and_push, split_options
from openxclip.processing.bpe import byte_pair_model, byte_pair_tokenizer, clip_byte_pairs, read_merges, read_tokenizer
from openxclip.processing.encoding import Encoder
from openxclip.processing.settings import settings_only
from openxclip.processing.tokens import SPECIAL, added_token, content

CONTEXT_LENGTH = 77  # positions of CLIP's text transformer
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")

TOKENIZER_SETTINGS = (*SPECIAL, "additional_special_tokens", "model_max_length", "padding_side", "truncation_side")
# transformers saves 10^30 for a tokenizer without a limit; real limits are far below this.
_NO_LIMIT = 1_000_000


class CLIPTokenizer(Encoder):
    """Text to token ids and back, with the ids of CLIP's released tokenizer.

    Args:
        vocab_file: a `vocab.json`, given with `merges_file`; without files, CLIP's own vocabulary is used.
        merges_file: a `merges.txt`.
        tokenizer_file: a `tokenizer.json`, instead of the other two.
        config: content of a `tokenizer_config.json`: special tokens and `model_max_length`; unknown keys are kept for
            saving.
        settings: settings by keyword, which replace the configuration's: the special tokens, model_max_length,
            padding_side, truncation_side.

    Attributes:
        bos_token, eos_token, unk_token, pad_token: the special tokens, with ids `bos_token_id` and so on.
        additional_special_tokens: further special tokens that were added.
        model_max_length: default length of truncation and padding in tokens, 77 unless the configuration has another.
        padding_side, truncation_side: sides where texts are padded and cut; "right" unless the configuration says
            "left".
        name_or_path: source of the tokenizer; "" if there is none.

    Examples:
        >>> from openxclip import CLIPTokenizer
        >>> CLIPTokenizer()("a cat runs").input_ids
        [49406, 320, 2368, 5586, 49407]
    """

    model_input_names = ("input_ids", "attention_mask")
    is_fast = True

    def __init__(
        self,
        vocab_file: str | Path | None = None,
        merges_file: str | Path | None = None,
        *,
        tokenizer_file: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._config = {**(config or {}), **settings_only(settings, TOKENIZER_SETTINGS, type(self).__name__)}
        self.name_or_path = ""
        special = {name: self._config.get(name) or default for name, default in SPECIAL.items()}
        for name, token in special.items():
            setattr(self, name, content(token))
        additional = self._config.get("additional_special_tokens") or []
        self.additional_special_tokens = [content(token) for token in additional]
        self.padding_side = self._side("padding_side")
        self.truncation_side = self._side("truncation_side")
        limit = self._config.get("model_max_length") or CONTEXT_LENGTH
        self.model_max_length = int(limit) if limit < _NO_LIMIT else CONTEXT_LENGTH

        if tokenizer_file is not None:
            self._backend = read_tokenizer(Path(tokenizer_file))
        elif (vocab_file is None) != (merges_file is None):
            given, missing = ("vocab_file", "merges_file") if vocab_file else ("merges_file", "vocab_file")
            raise ValueError(f"{given} is given without {missing}: a vocabulary needs both")
        elif vocab_file is None or merges_file is None:
            self._backend = byte_pair_tokenizer(clip_byte_pairs(self.unk_token))
        else:
            merges = read_merges(Path(merges_file))
            model = byte_pair_model(read_json(Path(vocab_file)), merges, unk_token=self.unk_token)
            self._backend = byte_pair_tokenizer(model)
        # Tokens of tokenizer.json keep its flags (such as whether they are matched before lower-casing).
        known = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        by_id = self._config.get("added_tokens_decoder") or {}
        added = [by_id[number] for number in sorted(by_id, key=int)]
        for token in (*special.values(), *additional, *added):
            if content(token) not in known:
                new_token = added_token(token)
                add = self._backend.add_special_tokens if new_token.special else self._backend.add_tokens
                add([new_token])
        if tokenizer_file is None:
            self._backend.post_processor = processors.RobertaProcessing(
                (self.eos_token, self.eos_token_id), (self.bos_token, self.bos_token_id), False, False
            )

    def _side(self, name: str) -> str:
        side = self._config.get(name) or "right"
        if side not in ("left", "right"):
            raise ValueError(f'{name}={side!r}: choose "left" or "right"')
        return str(side)

    # ------------------------------------------------------------------------------------------------ folders

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> CLIPTokenizer:
        """Read the tokenizer of a model folder: its tokenizer.json, else vocab.json and merges.txt, else CLIP's own.

        Args:
            pretrained_model_name_or_path: a local folder, a shipped model or a hub id.
            options: options of the hub (see `openxclip.hub.HubOptions`), and settings that replace the folder's:
                model_max_length, padding_side, truncation_side, the special tokens.

        Raises:
            CheckpointError: there is no such folder, or a file in it can't be read.
            TypeError: there is no such option.
        """
        hub_options, others = split_options(options)
        settings = settings_only(others, TOKENIZER_SETTINGS, f"{cls.__name__}.from_pretrained")
        folder = resolve_folder(pretrained_model_name_or_path, allow_patterns=TOKENIZER_FILES, **hub_options)
        tokenizer = cls._from_folder(folder, settings)
        tokenizer.name_or_path = str(pretrained_model_name_or_path)
        return tokenizer

    @classmethod
    def _from_folder(cls, folder: Path, settings: dict[str, Any]) -> CLIPTokenizer:
        config_file = folder / "tokenizer_config.json"
        config = {**(read_json(config_file) if config_file.is_file() else {}), **settings}
        if (folder / "tokenizer.json").is_file():
            return cls(tokenizer_file=folder / "tokenizer.json", config=config)
        files = [folder / name for name in ("vocab.json", "merges.txt") if (folder / name).is_file()]
        if len(files) == 1:
            missing = "merges.txt" if files[0].name == "vocab.json" else "vocab.json"
            raise CheckpointError(f"{folder}: has {files[0].name} but no {missing}; a tokenizer needs both.")
        return cls(*files, config=config)

    @classmethod
    def of(cls, tokenizer: Any) -> CLIPTokenizer:
        """Return the tokenizer itself, or one with the vocabulary and settings of transformers' CLIP tokenizer.

        Raises:
            TypeError: the tokenizer is neither of this class nor a CLIP tokenizer of transformers.
        """
        if isinstance(tokenizer, cls):
            return tokenizer
        names = {base.__name__ for base in type(tokenizer).__mro__}
        if not names & {"CLIPTokenizer", "CLIPTokenizerFast"} or not hasattr(tokenizer, "save_pretrained"):
            raise TypeError(f"tokenizer must be a CLIP tokenizer, not an object of type {type(tokenizer).__name__}.")
        with tempfile.TemporaryDirectory() as folder:
            tokenizer.save_pretrained(folder)
            copied = cls._from_folder(Path(folder), {})
        copied.name_or_path = str(getattr(tokenizer, "name_or_path", ""))
        return copied

    @property
    def init_kwargs(self) -> dict[str, Any]:
        """The settings by their names in tokenizer_config.json."""
        return {
            **self._config,
            **self.special_tokens_map,
            "model_max_length": self.model_max_length,
            "name_or_path": self.name_or_path,
        }

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload the tokenizer's files to a hub repository; options as for `openxclip.hub.push_folder`."""
        return save_and_push(self.save_pretrained, repo_id, **options)

    def save_pretrained(self, save_directory: str | Path, *, processor_class: str | None = None) -> tuple[str, ...]:
        """Write tokenizer.json, vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json.

        Args:
            save_directory: the folder, which is created if it doesn't exist.
            processor_class: name of the tokenizer's processor, for Auto classes.

        Returns:
            The paths of the files.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        serialized = json.loads(self._backend.to_str())
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in serialized["model"]["merges"]]
        special = self.special_tokens_map
        config = {
            "tokenizer_class": "CLIPTokenizer",
            **self._config,
            **special,
            "model_max_length": self.model_max_length,
        }
        for side in ("padding_side", "truncation_side"):
            if side in config or getattr(self, side) != "right":
                config[side] = getattr(self, side)
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
