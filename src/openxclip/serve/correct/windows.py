"""Functions of `serve/correct` for the process that holds the model and the index; a `CallTask` calls them.

Legend: N windows, E width of an embedding, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.checkpoints.fingerprints import fingerprint_by_name
from openxclip.common.counting import counted
from openxclip.datasets import readable_name
from openxclip.datasets.labels import name_key
from openxclip.errors import CheckpointError
from openxclip.search.schema import embeddings_of
from openxclip.search.store import Store
from openxclip.serve.correct.head import Head, Spread, as_dict, compare, group_windows, train_head
from openxclip.serve.correct.labels import Key, WindowLabel, window_key
from openxclip.serve.correct.proposals import Order, propose
from openxclip.serve.engine.context import ModelContext

_SAMPLE = 8192  # windows to choose from; more would take longer than a user waits
_SPREAD_SAMPLE = 2048
_COLUMNS = ("path", "start", "end", "featureless", "embedding")
_PATHS_AT_ONCE = 200
_SPARE = 4  # times as many candidates, because of windows that overlap

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Windows:
    """N windows of the index.

    Attributes:
        keys: path, start and end of each.
        embedding_NE: their embeddings, of length 1.
        total: number of windows in the index, from which they were drawn.
        featureless: number of windows that were left out, because they are of one colour or frozen.
    """

    keys: list[Key]
    embedding_NE: Floats  # noqa: N815
    total: int = 0
    featureless: int = 0


def propose_windows(
    context: ModelContext, *, labels: Sequence[WindowLabel], classes: Sequence[str], count: int, order: Order, seed: int
) -> dict[str, Any]:
    """Choose windows of the index to label next, and guess their labels by a head that is trained on the spot.

    Args:
        context: the model and the index.
        labels: the labels so far.
        classes: labels to guess from, beside those of `labels`.
        count: maximum number of windows.
        order: how to choose, see `openxclip.serve.correct.proposals`.
        seed: seeds the choice; other labels give another choice anyway.

    Returns:
        {"order": the order that was used, "proposals": list of {"path", "start", "end", "label", "probability"},
        "windows": number of windows in the index, "notes": list of sentences}. The label is the best guess; None if
        there are no classes.

    Raises:
        NoIndexError, WrongIndexError: there is no index, or it isn't the model's.
        ValueError: the order is unknown.
    """
    store, notes = context.open_index().store, list[str]()
    generator = np.random.default_rng([seed, len(labels)])
    labelled = _labelled_windows(store, labels, notes)
    sample = _sample(store, _SAMPLE, generator)
    if sample.total > _SAMPLE:
        notes.append(f"Chosen from {len(sample.keys)} windows, drawn at random from the {sample.total} of the index.")
    if sample.featureless:
        notes.append(f"{sample.featureless} windows of one colour, or frozen, are left out.")
    class_of = {label.key: label.label for label in labels}
    keys = list(dict.fromkeys(chain(labelled.keys, sample.keys)))
    row_of = dict(zip([*sample.keys, *labelled.keys], range(len(sample.keys) + len(labelled.keys)), strict=True))
    both_NE = np.concatenate([sample.embedding_NE, labelled.embedding_NE])
    embedding_NE = both_NE[[row_of[key] for key in keys]]
    labelled_N = np.array([key in class_of for key in keys], dtype=bool)
    if labelled_N.all():
        return {"order": order, "proposals": [], "windows": sample.total, "notes": notes}

    names = join_classes(classes, class_of.values())
    head = _trained(context, names, labelled, class_of, Spread.of(embedding_NE)) if names else None
    probability_NK = np.zeros((len(keys), 0), np.float32) if head is None else head.probabilities(embedding_NE)
    if len(names) < 2 and order != "random":
        order = "typical"
    per_class = [list(class_of.values()).count(name) for name in names]
    wanted = count if order == "typical" else _SPARE * count
    chosen, used = propose(
        embedding_NE, labelled_N, probability_NK, wanted,
        order=order, labels_per_class=per_class, generator=generator,
    )  # fmt: skip
    chosen = _without_overlaps(chosen, keys, [key for key in keys if key in class_of])[:count]
    guesses = [None if head is None else int(probability_NK[row].argmax()) for row in chosen]
    proposals = [
        {
            "path": keys[row][0],
            "start": keys[row][1],
            "end": keys[row][2],
            "label": None if guess is None else names[guess],
            "probability": None if guess is None else round(float(probability_NK[row, guess]), 4),
        }
        for row, guess in zip(chosen, guesses, strict=True)
    ]
    return {"order": used, "proposals": proposals, "windows": sample.total, "notes": notes}


def retrain(
    context: ModelContext, *, labels: Sequence[WindowLabel], classes: Sequence[str], path: Path, name: str
) -> dict[str, Any]:
    """Train a head on the labelled windows, write it to a file, and compare it with zero-shot on held-out labels.

    Args:
        context: the model and the index.
        labels: the labels.
        classes: labels to tell apart, beside those of `labels`; without any window they keep their zero-shot logits.
        path: file of the head.
        name: the head's name.

    Returns:
        The fields of `openxclip.serve.correct.head.Comparison` (None for NaN, and `verdict` as a sentence), "outcome":
        "better", "worse" or "unclear", "head": the name, "classes", "labels": the number that it was trained on,
        "seconds", and "notes": list of sentences.

    Raises:
        NoIndexError, WrongIndexError: there is no index, or it isn't the model's.
        ValueError: fewer than two classes have labelled windows in the index.
        OSError: the head can't be written.
    """
    began, notes = time.monotonic(), list[str]()
    store = context.open_index().store
    generator = np.random.default_rng(0)  # so that the same labels give the same numbers
    labelled = _labelled_windows(store, labels, notes)
    class_of = {label.key: label.label for label in labels}
    names = join_classes(classes, class_of.values())
    class_N = np.array([names.index(class_of[key]) for key in labelled.keys], dtype=np.int64)
    if len(np.unique(class_N)) < 2:
        raise ValueError(
            f"the index has {counted(len(class_N), 'labelled window')} with "
            f"{counted(len(np.unique(class_N)), 'label')}: two or more are needed to tell apart. Label more windows."
        )
    spread = Spread.of(_sample(store, _SPREAD_SAMPLE, generator).embedding_NE)
    start = _zero_shot(context, names)
    comparison = compare(
        start, labelled.embedding_NE, class_N, group_windows(labelled.keys, class_N), spread, generator
    )
    head = train_head(start, labelled.embedding_NE, class_N, spread)
    replace(head, model=weights_of(context)).save(path)
    return {
        **as_dict(comparison),
        "outcome": comparison.verdict,
        "verdict": comparison.sentence(),
        "head": name,
        "classes": names,
        "labels": head.labels,
        "seconds": round(time.monotonic() - began, 3),
        "notes": notes,
    }


def classify(context: ModelContext, *, head: Path, name: str, top: int) -> dict[str, Any]:
    """Classify the video of the task by a head, as one clip.

    Args:
        context: the model, and the task, a `CallTask` with `path` and `name`.
        head: file of the head.
        name: the head's name.
        top: maximum number of labels in the result.

    Returns:
        {"model", "result": as for a `ClassifyTask`, with the head's labels and None for scores, "notes"}.

    Raises:
        ValueError: the head can't be read, or was trained on another model's features.
        VideoError: the video can't be read.
    """
    work = context.work
    try:
        classifier = Head.load(head)
    except CheckpointError as error:
        raise ValueError(str(error).replace(str(head), f"the head {name!r}")) from None
    if classifier.model != weights_of(context):
        raise ValueError(f"the head {name!r} was trained on another model's features: retrain it.")

    def read() -> tuple[Floats, list[list[float]]]:
        (result,) = context.pipeline.encode_videos([str(work.task.path)], on_clip=work.check)  # type: ignore[attr-defined]
        if result.error is not None:
            raise result.error
        assert result.features is not None
        return _unit(result.features.pooled.float().cpu().numpy()), [list(times) for times in result.times]

    feature_1E, times = work.read_twice(read)
    probability_K = classifier.probabilities(feature_1E)[0]
    best = np.argsort(-probability_K, kind="stable")[:top]
    rows = [
        {"label": classifier.classes[k], "probability": round(float(probability_K[k]), 6), "score": None} for k in best
    ]
    result = {
        "path": work.task.name,  # type: ignore[attr-defined]
        "outcome": classifier.classes[int(best[0])],
        "labels": rows,
        "none_of_these": None,
        "times": [[round(time, 3) for time in clip] for clip in times],
    }
    return {"model": context.name, "result": result, "notes": list(work.notes)}


def join_classes(classes: Sequence[str], used: Any) -> list[str]:
    """Return the classes of the request and of the labels without duplicates; the labels' spelling takes precedence."""
    spelling = {name_key(name): name for name in used}
    named = [spelling.get(name_key(name), name) for name in classes]
    return list(dict.fromkeys([*named, *spelling.values()]))


@cache
def weights_of(context: ModelContext) -> str:
    """Return the SHA-256 of the weights of the model that the process holds, which is computed once."""
    return fingerprint_by_name(context.pipeline.model, str(context.pipeline.name))


def _zero_shot(context: ModelContext, names: Sequence[str]) -> Head:
    pipeline = context.pipeline
    text_KE = pipeline.encode_texts([readable_name(name) for name in names], what="label", on_text=context.work.check)
    return Head.zero_shot(
        names, text_KE.float().cpu().numpy(), float(pipeline.model.logit_scale.detach().float().exp())
    )


def _trained(
    context: ModelContext, names: Sequence[str], labelled: Windows, class_of: dict[Key, str], spread: Spread
) -> Head:
    start = _zero_shot(context, names)
    class_N = np.array([names.index(class_of[key]) for key in labelled.keys], dtype=np.int64)
    return train_head(start, labelled.embedding_NE, class_N, spread)


def _labelled_windows(store: Store, labels: Sequence[WindowLabel], notes: list[str]) -> Windows:
    """Return the windows of the index that have labels; note how many labels have none."""
    wanted = {label.key for label in labels}
    paths = list(dict.fromkeys(label.path for label in labels))
    rows: dict[Key, Floats] = {}
    for i in range(0, len(paths), _PATHS_AT_ONCE):
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths[i : i + _PATHS_AT_ONCE])
        for table in store.read_windows(_COLUMNS, f"path IN ({listed})"):
            embedding_NE = embeddings_of(table)
            for row, key in enumerate(_keys(table)):
                if key in wanted:
                    rows[key] = embedding_NE[row]
    missing = len(wanted) - len(rows)
    if missing:
        notes.append(
            f"{missing} of {len(wanted)} labels are of windows that the index doesn't have, and don't count here: the "
            "videos were removed or changed, or the index has other windows now."
        )
    keys = [label.key for label in labels if label.key in rows]
    embedding_NE = np.array([rows[key] for key in keys], dtype=np.float32).reshape(len(keys), store.width)
    return Windows(keys, _unit(embedding_NE))


def _sample(store: Store, size: int, generator: np.random.Generator) -> Windows:
    """Draw about `size` windows of all videos; without featureless ones."""
    total = store.count_windows()
    step = -(-total // size) if total else 1
    where = f"(video % {step} + number) % {step} = {generator.integers(step)}" if step > 1 else None
    keys, parts, featureless = list[Key](), [np.zeros((0, store.width), np.float32)], 0
    for table in store.read_windows(_COLUMNS, where):
        kept_N = ~table["featureless"].to_numpy()
        featureless += int((~kept_N).sum())
        parts.append(embeddings_of(table)[kept_N].astype(np.float32))
        keys += [key for key, kept in zip(_keys(table), kept_N, strict=True) if kept]
    return Windows(keys, _unit(np.concatenate(parts)), total, featureless)


def _keys(table: Any) -> list[Key]:
    columns = (table[name].to_pylist() for name in ("path", "start", "end"))
    return [window_key(*row) for row in zip(*columns, strict=True)]


def _unit(rows_NE: Floats) -> Floats:
    result: Floats = rows_NE / np.maximum(np.linalg.norm(rows_NE, axis=1, keepdims=True), 1e-12)
    return result


def _without_overlaps(chosen: Sequence[int], keys: Sequence[Key], labelled: Sequence[Key]) -> list[int]:
    """Return rows without those whose windows overlap a labelled or an earlier one; all rows if none is left.

    Overlapping windows show the same moment, so a label of one tells little about the model on the other.
    """
    taken: dict[str, list[tuple[float, float]]] = {}
    for path, start, end in labelled:
        taken.setdefault(path, []).append((start, end))
    kept = []
    for row in chosen:
        path, start, end = keys[row]
        spans = taken.setdefault(path, [])
        if not any(start < other_end and other_start < end for other_start, other_end in spans):
            spans.append((start, end))
            kept.append(row)
    return kept or list(chosen)
