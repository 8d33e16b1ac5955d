"""Classify videos by labels in words, or as none of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openxclip.common.argument_names import takes_arguments_of
from openxclip.engine import Precision
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline.batching import Batch, VideoResult, check_batch
from openxclip.pipeline.loading import as_pipeline
from openxclip.processing.sources import Videos, as_sources
from openxclip.processing.texts import check_distinct
from openxclip.recognition.background import share_against_neutral
from openxclip.recognition.results import NONE_OF_THESE, Classification, LabelScore
from openxclip.video import ClipPlan, ReadOptions, VideoSource, find_videos, source_name
from openxclip.video.sampling import Sampling


class Classifier:
    """Classify any number of videos by labels that are encoded once.

    Args:
        pipeline: the model and its processor.
        labels: two or more labels, or one if only its `score` matters.
        template: the text that is encoded for a label, with `{}` for the label. The paper encodes the bare class name.
        min_score: the score that the best label needs to be the outcome, from 0 (it always is) to 1. The default is the
            threshold for this label in the model's contract of time, which is 0.5 if the contract has none.
        on_text: called after some texts each time, with the number encoded so far: the labels and the neutral texts of
            the contract.

    Raises:
        CheckpointError: the model's contract is invalid.
        ValueError: there are no labels, one is empty or repeated, or two have the same tokens; `template` doesn't have
            exactly one `{}`; or `min_score` is out of range.
    """

    def __init__(
        self,
        pipeline: VideoPipeline,
        labels: Sequence[str],
        *,
        template: str = "{}",
        min_score: float | None = None,
        on_text: Callable[[int], object] = lambda done: None,
    ) -> None:
        self.labels = check_labels(labels)
        if template.count("{}") != 1:
            raise ValueError(f"template {template!r}: must have {{}} once, where the label goes.")
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"min_score={min_score}: must be from 0 to 1.")
        self.pipeline, self.contract = pipeline, pipeline.contract
        self.min_score = min_score
        texts = [template.replace("{}", label) for label in self.labels]
        check_distinct(pipeline.processor.tokenizer, texts)
        texts += self.contract.neutral_texts
        self._text_features_KE = pipeline.encode_texts(texts, what="label", on_text=on_text)

    def __call__(
        self,
        videos: Iterable[VideoSource],
        plan: ClipPlan | None = None,
        *,
        top_k: int = 5,
        read: ReadOptions | None = None,
        batch: Batch = "auto",
        on_clip: Callable[[int], object] = lambda done: None,
    ) -> Iterator[Classification]:
        """Return an iterator over the classifications of videos, in the order given.

        Args:
            videos: as `sources` of `VideoPipeline.encode_videos`.
            top_k: the number of labels to return for each video.
            plan, read, batch, on_clip: see `VideoPipeline.encode_videos`.

        Raises:
            ValueError: an argument is out of range.
            TypeError: `videos` is one path instead of several.
        """
        if isinstance(videos, str | bytes):
            raise TypeError("videos must be a list: put a single one in brackets.")
        if top_k < 1:
            raise ValueError(f"top_k={top_k}: must be 1 or more.")
        results = self.pipeline.encode_videos(videos, plan, read=read, batch=batch, on_clip=on_clip)
        return (self._classify(result, top_k) for result in results)

    def _classify(self, result: VideoResult, top_k: int) -> Classification:
        name = source_name(result.source)
        if result.features is None:
            return Classification(name, error=result.error)
        logits_CK = self.pipeline.score(self._text_features_KE, result.features)
        probability, score = scores_of_labels(logits_CK, len(self.labels))
        order = probability.argsort(descending=True, stable=True).tolist()
        ranked = [LabelScore(self.labels[i], probability[i].item(), score[i].item()) for i in order[:top_k]]
        return Classification(
            name,
            labels=tuple(ranked),
            outcome=ranked[0].label if ranked[0].score >= self._score_needed(ranked[0].label) else NONE_OF_THESE,
            none_of_these=1 - ranked[0].score,
            times=result.times,
        )

    def _score_needed(self, label: str) -> float:
        return self.contract.threshold_of(label) if self.min_score is None else self.min_score


def scores_of_labels(logits_CK: Tensor, num_labels: int) -> tuple[Tensor, Tensor]:
    """Return the probabilities and the scores of labels, averaged over clips (see `LabelScore`).

    Args:
        logits_CK: logits of C clips for the labels first, then for one or more neutral texts.
        num_labels: the number of labels.

    Returns:
        Probabilities and scores, each of shape (K,) for K labels.
    """
    labels, neutral = logits_CK[:, :num_labels], logits_CK[:, num_labels:]
    return labels.softmax(dim=1).mean(dim=0), share_against_neutral(labels, neutral).mean(dim=0)


def check_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels without surrounding white space.

    Raises:
        ValueError: there are no labels, or one is empty or given twice.
        TypeError: `labels` is a string instead of a list, or has something else than strings.
    """
    if isinstance(labels, str):
        raise TypeError(f"labels must be a list of texts, not one text: did you mean [{labels!r}]?")
    labels = list(labels)
    wrong = next((label for label in labels if not isinstance(label, str)), None)
    if wrong is not None:
        raise TypeError(f"labels must be texts, not {type(wrong).__name__}: {wrong!r:.80}.")
    stripped = [label.strip() for label in labels]
    if not stripped:
        raise ValueError("there are no labels to choose from.")
    if "" in stripped:
        raise ValueError(f"label {stripped.index('') + 1} of {len(stripped)} is empty.")
    repeated = [label for label, count in Counter(stripped).items() if count > 1]
    if repeated:
        raise ValueError(f"label {repeated[0]!r} is given twice.")
    return stripped


def iter_classify(
    paths: Videos,
    labels: Sequence[str],
    *,
    model: str | Path | VideoPipeline = DEFAULT_MODEL,
    num_frames: int | None = None,
    num_clips: int = 1,
    start: float | None = None,
    end: float | None = None,
    sampling: Sampling = "time",
    top_k: int = 5,
    template: str = "{}",
    min_score: float | None = None,
    batch: Batch = "auto",
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    read: ReadOptions | None = None,
) -> Iterator[Classification]:
    """Classify videos by `labels`, and yield each result as soon as it is ready; `classify` returns them as a list.

    Args:
        paths: one or more files, folders, globs (see `openxclip.video.find_videos`), bytes or open files; or frames in
            memory, in the forms of `openxclip.processing.frames`. A list of frames, or an array of 4 dimensions, is one
            video; a list of these, which may contain paths too, or an array of 5 dimensions is several. Results name
            them "frames 1", "frames 2", …, in order. Frames aren't copied, so don't change them before the result is
            returned.
        labels: the labels to choose from.
        model: a folder, a hub id, or "mini", which knows only the rendered playground; or a loaded pipeline.
        num_frames: frames of a clip; default is the number that the model was trained with.
        num_clips: number of clips of each video, whose probabilities are averaged.
        start, end: the part of every video to use, in seconds.
        sampling: how to choose the frames of a clip: by "time", or by counting "frames", see
            `openxclip.video.sampling.Timeline`.
        top_k: the number of labels to return for each video.
        template, min_score: see `Classifier`.
        batch: clips in one call of the model, see `VideoPipeline.encode_videos`.
        device, dtype, precision, isolate: see `VideoPipeline.from_pretrained`.
        read: how to read videos; default is the pipeline's `read`, or `ReadOptions()`.

    Returns:
        An iterator over one result for each video, in order. A video that could not be read has a result with `error`.

    Raises:
        ValueError, TypeError: an argument is invalid, frames in memory included. This and the next are raised at the
            call, before any video is read.
        CheckpointError: the model can't be found or loaded.

    Examples:
        >>> import openxclip
        >>> for result in openxclip.iter_classify("samples", ["an owl vanishes", "a cat moves left"], model="mini"):
        ...     print(result.path, result.error or result.outcome)
        samples/cat_moves_left.mp4 a cat moves left
        samples/eagle_picks_up_a_snake.mp4 none of these
        ...
    """
    labels = check_labels(labels)  # this and the next checks come before the model is loaded
    plan = ClipPlan(num_frames=num_frames, num_clips=num_clips, start=start, end=end, sampling=sampling)
    check_batch(batch)
    sources = as_sources(paths)
    pipeline = as_pipeline(model, device=device, dtype=dtype, precision=precision, isolate=isolate, read=read)
    classifier = Classifier(pipeline, labels, template=template, min_score=min_score)
    return classifier(find_videos(sources), plan, top_k=top_k, read=read, batch=batch)


@takes_arguments_of(iter_classify)
def classify(*args: Any, **options: Any) -> list[Classification]:
    """Classify videos by labels; the twin of `openxclip classify`.

    Arguments and errors are those of `iter_classify`, which yields each result as soon as it is ready. Here all results
    are lost if the call is interrupted.

    Returns:
        One result for each video, in order. A video that could not be read has a result with `error`.

    Examples:
        >>> import openxclip
        >>> labels = ["a cat moves left", "a cat moves right"]
        >>> (result,) = openxclip.classify("samples/cat_moves_left.mp4", labels, model="mini")
        >>> result.outcome
        'a cat moves left'
    """
    return list(iter_classify(*args, **options))
