"""The model that train_mini.py trains, and its texts and pixel values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mini_data import sentences_with_every_word
from torch import Tensor, nn

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.processing import CLIPTokenizer
from openxclip.recognition.background import BACKGROUND_TEXTS

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SIZE, FRAMES, WIDTH = 64, 8, 192  # side of the frames in pixels, frames per clip, width of both towers

CONFIG = {
    "projection_dim": WIDTH,
    "prompt_num_attention_heads": 3,
    "text_config": {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
                    "num_hidden_layers": 3, "num_attention_heads": 3,
                    "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
    "vision_config": {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
                      "num_attention_heads": 3, "mit_hidden_size": WIDTH, "mit_intermediate_size": 4 * WIDTH,
                      "mit_num_attention_heads": 3, "mit_num_hidden_layers": 2,
                      "image_size": SIZE, "patch_size": 8, "num_frames": FRAMES},
}  # fmt: skip


class Texts:
    """Tokenize sentences for a model that has embeddings only of the tokens in use, in the order of the vocabulary.

    Args:
        sentences: sentences with all tokens in use; default is all words of the playground and the neutral texts.

    Attributes:
        used: ids of the tokens in use, sorted.
    """

    def __init__(self, sentences: Iterable[str] | None = None) -> None:
        self._tokenizer = CLIPTokenizer()
        if sentences is None:
            sentences = [*sentences_with_every_word(), *BACKGROUND_TEXTS]
        self.used = sorted({token for ids in self._tokenizer(list(sentences))["input_ids"] for token in ids})
        self._row = {token: row for row, token in enumerate(self.used)}
        self._known: dict[str, list[int]] = {}

    def ids(self, sentences: list[str]) -> Tensor:
        """Return token ids (K, L), padded with the end token: the text tower is causal, so it ignores padding."""
        for sentence in set(sentences) - self._known.keys():
            self._known[sentence] = [self._row[token] for token in self._tokenizer(sentence)["input_ids"]]
        rows = [self._known[sentence] for sentence in sentences]
        longest = max(map(len, rows))
        return torch.tensor([row + [len(self.used) - 1] * (longest - len(row)) for row in rows])


def build(used: int) -> XCLIPModel:
    """Make a model with random weights and embeddings of `used` tokens."""
    config = {**CONFIG, "text_config": {**CONFIG["text_config"], "vocab_size": used}}
    model = XCLIPModel(XCLIPConfig(**config))
    with torch.no_grad():  # with larger positions the model learns places and order sooner
        nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=0.2)
        nn.init.normal_(model.mit.position_embedding, std=0.5)  # the standard deviation of frame features is 1.5
        nn.init.normal_(model.prompts_visual_projection, std=WIDTH**-0.5)
    return model


def pixels(frames: Tensor) -> Tensor:
    """Return normalised pixel values of frames, uint8 (…, 3, H, W)."""
    return (frames.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]
