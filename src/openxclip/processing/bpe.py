"""Build CLIP's pipeline of the `tokenizers` library, from the files of a folder or the vocabulary in the package.

The steps are those of the released tokenizer.json: Unicode NFC, white space to single spaces, lower case; splitting
into words, single digits and runs of other characters; bytes; merges.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from openxclip.common.files import as_os_error, cannot_read
from openxclip.errors import CheckpointError
from openxclip.processing.vocab import END_OF_WORD, clip_merges, clip_vocabulary

_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def read_tokenizer(path: Path) -> Tokenizer:
    """Return the pipeline of a `tokenizer.json` without truncation and padding; CheckpointError if there is none."""
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        system_error = as_os_error(error, path)
        if system_error is not None:
            raise CheckpointError(cannot_read(path, system_error)) from error
        raise CheckpointError(f"{path}: is not a tokenizer ({error}).") from error
    backend.no_truncation()
    backend.no_padding()
    return backend


def read_merges(path: Path) -> list[tuple[str, str]]:
    """Return the pairs in a `merges.txt`; CheckpointError if it holds anything else."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise CheckpointError(cannot_read(path, error)) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: is not text in UTF-8 ({error}).") from error
    lines = [line for line in lines if line and not line.startswith("#version")]
    for line in lines:
        if line.count(" ") != 1:
            raise CheckpointError(f"{path}: {line!r} is not a pair of tokens.")
    return [(left, right) for left, right in (line.split(" ") for line in lines)]


@lru_cache(maxsize=1)
def clip_byte_pairs(unk_token: str) -> BPE:
    """Return the model of CLIP's own vocabulary. It is made once; tokenizers share it, because none changes it."""
    merges = clip_merges()
    return byte_pair_model(clip_vocabulary(merges), merges, unk_token=unk_token)


def byte_pair_model(vocabulary: dict[str, int], merges: list[tuple[str, str]], *, unk_token: str) -> BPE:
    """Return the model that joins byte pairs; CheckpointError if vocabulary and merges don't fit each other."""
    try:
        return BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=unk_token,
            continuing_subword_prefix="",
            end_of_word_suffix=END_OF_WORD,
            fuse_unk=False,
        )
    except Exception as error:  # the library raises nothing more specific
        raise CheckpointError(f"vocabulary and merges don't fit each other ({error}).") from error


def byte_pair_tokenizer(model: BPE) -> Tokenizer:
    """Return CLIP's pipeline around a model that joins byte pairs."""
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend
