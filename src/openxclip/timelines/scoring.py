"""Score labels in the windows of a video, each label by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.processing.texts import check_distinct
from openxclip.recognition.background import share_against_neutral

_CLIPS_AT_ONCE = 32  # their patches take a few megabytes
_PAIRS_AT_ONCE = 2048  # of a clip and a text, each with its own prompts


class LabelScorer:
    """Scores labels, which are encoded once, in any number of windows.

    Args:
        pipeline: the model and its processor.
        labels: K distinct labels, without surrounding white space.
        template: the text that is encoded for a label, with `{}` for the label.
        neutral_texts: the texts that a label's score compares it with.
        on_text: called after some texts each time, with the number of labels and neutral texts encoded so far.

    Attributes:
        clips_at_once: the number of windows to score in one call, so that memory is bounded.
        text_features: features of the labels and then of the neutral texts, (K + N, E).

    Raises:
        ValueError: two labels have the same tokens, or `template` doesn't have exactly one `{}`.
    """

    def __init__(
        self,
        pipeline: VideoPipeline,
        labels: Sequence[str],
        *,
        template: str = "{}",
        neutral_texts: Sequence[str],
        on_text: Callable[[int], object] = lambda done: None,
    ) -> None:
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r}: must have {{}} once, where the label goes.")
        texts = [template.replace("{}", label) for label in labels]
        check_distinct(pipeline.processor.tokenizer, texts)
        self._pipeline, self._num_labels = pipeline, len(texts)
        texts += neutral_texts
        self.text_features = pipeline.encode_texts(texts, what="label", on_text=on_text)
        self.clips_at_once = max(1, min(_CLIPS_AT_ONCE, _PAIRS_AT_ONCE // len(texts)))

    def score(self, features: Sequence[VideoFeatures]) -> NDArray[np.float32]:
        """Return each label's share against the neutral texts, in windows with video-specific prompts.

        Args:
            features: features of some windows, each as in `EncodedClip`.

        Returns:
            (W, K), from 0 to 1, for W windows.
        """
        shares = [np.zeros((0, self._num_labels), np.float32)]
        for i in range(0, len(features), self.clips_at_once):
            pooled, patches = zip(*features[i : i + self.clips_at_once], strict=True)
            logits_CK = self._pipeline.score(self.text_features, VideoFeatures(torch.cat(pooled), torch.cat(patches)))
            shares.append(self.shares(logits_CK))
        return np.concatenate(shares)

    def shares(self, logits_CK: Tensor) -> NDArray[np.float32]:
        """Return each label's share, from the logits (C, K + N) of C clips for the labels and the neutral texts."""
        labels_CK, neutral_CN = logits_CK[:, : self._num_labels], logits_CK[:, self._num_labels :]
        shares: NDArray[np.float32] = share_against_neutral(labels_CK, neutral_CN).float().cpu().numpy()
        return shares
