"""The vocabulary of OpenAI's CLIP, which X-CLIP shares: 49,408 tokens, learnt as 48,894 merges of byte pairs.

`merges.txt.gz` holds the merges that CLIP uses, lines 2 to 48,895 of its `bpe_simple_vocab_16e6.txt`, under OpenAI's
LICENSE (MIT) beside it. The tokens follow from the merges in CLIP's order.
"""

from __future__ import annotations

import gzip
from pathlib import Path

START_OF_TEXT = "<|startoftext|>"
END_OF_TEXT = "<|endoftext|>"
END_OF_WORD = "</w>"


def clip_merges() -> list[tuple[str, str]]:
    """Return the byte pairs that CLIP joins, in the order in which it joins them."""
    text = gzip.decompress((Path(__file__).parent / "merges.txt.gz").read_bytes()).decode()
    return [(left, right) for left, right in map(str.split, text.splitlines())]


def clip_vocabulary(merges: list[tuple[str, str]]) -> dict[str, int]:
    """Return the ids by token: single bytes, single bytes that end a word, joined pairs, start and end of text."""
    characters = _byte_characters()
    tokens = [
        *characters,
        *(character + END_OF_WORD for character in characters),
        *(left + right for left, right in merges),
        START_OF_TEXT,
        END_OF_TEXT,
    ]
    return {token: number for number, token in enumerate(tokens)}


def _byte_characters() -> list[str]:
    """Return GPT-2's visible character for each byte: printable Latin-1 as it is, and others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in (*printable, *range(0x100, 0x200 - len(printable)))]
