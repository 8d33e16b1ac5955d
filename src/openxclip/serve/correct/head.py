"""A head that learns from labelled windows, on their stored features.

Without labels it is the zero-shot classifier: the logits of a window are its cosines with the labels' texts, times the
model's logit scale. Labels change the scale and add a linear correction of the features,

    logits = scale · zero-shot logits + correction · (feature − mean) / spread + bias,

found by logistic regression with a penalty for leaving zero-shot (scale 1, correction and bias 0). The mean and the
spread of the collection's features make the penalty mean the same for every model. A class without labels keeps its
zero-shot logits, but for the scale, and plays no part in the regression.

Legend: N windows, E width of an embedding, K classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.files import atomic_file, cannot_read
from openxclip.errors import CheckpointError

if TYPE_CHECKING:
    import torch  # imported late, because a saved head is read without it

# Chosen on other actions and draws than those of benchmarks/corrections.py
PENALTY = 0.005  # of the correction
_SCALE_PENALTY = 1.0
_BIAS_PENALTY = 1.0
_STEPS = 100
_TOLERANCE = 1e-4  # of the loss, in nats for all labels together
_HISTORY = 10
_FOLDS = 5
_MIN_HELD_OUT = 2  # labels of a class, without which none of it can be held out

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Spread:
    """Mean (E,) and spread (the root mean square distance from the mean) of the embeddings of a collection."""

    mean_E: Floats  # noqa: N815
    spread: float

    @classmethod
    def of(cls, embedding_NE: Floats) -> Spread:
        """Measure embeddings of length 1."""
        mean_E = embedding_NE.mean(axis=0)
        spread = float(np.sqrt(((embedding_NE - mean_E) ** 2).sum(axis=1).mean()))
        return cls(mean_E, max(spread, 1e-6))


@dataclass(frozen=True)
class Head:
    """A linear classifier of embeddings.

    Attributes:
        classes: the K labels.
        weight_KE, bias_K: the logits of an embedding of length 1 are `weight_KE @ embedding + bias_K`.
        model: SHA-256 of the weights of the model whose embeddings it takes.
        labels: number of labels that it was trained on; 0 for zero-shot.
    """

    classes: tuple[str, ...]
    weight_KE: Floats  # noqa: N815
    bias_K: Floats  # noqa: N815
    model: str = ""
    labels: int = 0

    @classmethod
    def zero_shot(cls, classes: Sequence[str], text_KE: Floats, logit_scale: float) -> Head:
        """Return the zero-shot classifier.

        Args:
            classes: the labels.
            text_KE: features of their texts.
            logit_scale: the model's factor of cosines.
        """
        unit_KE = text_KE / np.linalg.norm(text_KE, axis=1, keepdims=True)
        return cls(tuple(classes), (logit_scale * unit_KE).astype(np.float32), np.zeros(len(text_KE), np.float32))

    def logits(self, embedding_NE: Floats) -> Floats:
        """Return the logits (N, K) of embeddings of length 1."""
        result: Floats = embedding_NE @ self.weight_KE.T + self.bias_K
        return result

    def probabilities(self, embedding_NE: Floats) -> Floats:
        """Return the probabilities (N, K) of the classes for embeddings of length 1."""
        logits_NK = self.logits(embedding_NE)
        shares_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        result: Floats = shares_NK / shares_NK.sum(axis=1, keepdims=True)
        return result

    def save(self, path: Path) -> None:
        """Write the head to a file, .safetensors; OSError if it can't be written."""
        from safetensors.numpy import save_file

        facts = {"classes": json.dumps(self.classes), "model": self.model, "labels": str(self.labels)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as partial:
            save_file({"weight": self.weight_KE, "bias": self.bias_K}, partial, metadata=facts)

    @classmethod
    def load(cls, path: Path) -> Head:
        """Read a head from a file.

        Raises:
            CheckpointError: the file can't be read or isn't a head.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                facts = file.metadata() or {}
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
            return cls(tuple(json.loads(facts["classes"])), weight, bias, facts["model"], int(facts["labels"]))
        except OSError as error:
            raise CheckpointError(cannot_read(path, error)) from error
        except (SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path}: is not a head that was trained on corrections: train it again.") from error


def train_head(start: Head, embedding_NE: Floats, class_N: Ints, spread: Spread, *, penalty: float = PENALTY) -> Head:
    """Return a head trained on labelled windows; `start` itself if fewer than two classes have labels.

    Args:
        start: the zero-shot head, from which the penalty keeps the result from straying.
        embedding_NE: embeddings of the labelled windows, of length 1.
        class_N: index of each window's class.
        spread: of the embeddings of the collection.
        penalty: of the correction, which is small if it is large.
    """
    import torch

    used = np.unique(class_N)
    if len(used) < 2:
        return start
    feature_NE = (embedding_NE - spread.mean_E) / spread.spread
    scale, correction_KE, bias_K = _solve(
        torch.from_numpy(start.logits(embedding_NE)[:, used]),
        torch.from_numpy(feature_NE),
        torch.from_numpy(np.searchsorted(used, class_N)),
        penalty,
    )
    change_KE = correction_KE.numpy() / spread.spread
    weight_KE, new_bias_K = start.weight_KE * scale, start.bias_K * scale
    weight_KE[used] += change_KE
    new_bias_K[used] += bias_K.numpy() - change_KE @ spread.mean_E
    return replace(start, weight_KE=weight_KE, bias_K=new_bias_K, labels=len(class_N))


def _solve(
    zero_shot_NK: torch.Tensor, feature_NE: torch.Tensor, target_N: torch.Tensor, penalty: float
) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Return the scale, the correction (K, E) and the bias (K,) that minimise the penalised cross-entropy.

    L-BFGS searches along the principal axes of the features, each in units in which the loss bends about equally. So it
    needs some dozens of steps instead of hundreds, and no more axes than there are windows.
    """
    import torch
    import torch.nn.functional as F

    wide = len(feature_NE) < feature_NE.shape[1]
    squared_R, axis = torch.linalg.eigh(feature_NE @ feature_NE.T if wide else feature_NE.T @ feature_NE)
    kept = squared_R > 1e-6 * squared_R[-1]
    squared_R, axis = squared_R[kept], axis[:, kept]
    axis_ER = feature_NE.T @ axis / squared_R.sqrt() if wide else axis
    unit_R = (squared_R / 4 + 2 * penalty).rsqrt()
    place_NR = feature_NE @ axis_ER * unit_R

    scale = torch.ones((), requires_grad=True)
    along_KR = torch.zeros(zero_shot_NK.shape[1], len(unit_R), requires_grad=True)
    bias_K = torch.zeros(zero_shot_NK.shape[1], requires_grad=True)
    search = torch.optim.LBFGS(
        [scale, along_KR, bias_K], max_iter=_STEPS, tolerance_change=_TOLERANCE, history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> torch.Tensor:
        search.zero_grad()
        logits_NK = scale.clamp(min=0) * zero_shot_NK + place_NR @ along_KR.T + bias_K
        left = penalty * ((along_KR * unit_R) ** 2).sum()
        left = left + _BIAS_PENALTY * (bias_K**2).sum() + _SCALE_PENALTY * (scale - 1) ** 2
        value: torch.Tensor = F.cross_entropy(logits_NK, target_N, reduction="sum") + left
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    correction_KE = along_KR.detach() * unit_R @ axis_ER.T
    return max(0.0, float(scale.detach())), correction_KE, bias_K.detach()


# -- accuracy ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """How many held-out labels are right before and after training.

    Attributes:
        before, after: accuracy of zero-shot, and of heads trained without the held-out labels; NaN if there are none.
        held_out: number of labels that were held out, each once.
        left_out: number of labels of classes that can't be held out, because all their labels are in one group.
        groups: "video" if labels of one video were held out together; "moment" if a class has labels in one video only,
            so that only overlapping windows were held out together; "none" if nothing can be held out.
        p: probability of so large a difference by chance (McNemar's exact test); NaN without held-out labels.
        verdict: "better" or "worse" if `p` is below 0.05, else "unclear".
    """

    before: float
    after: float
    held_out: int
    left_out: int
    groups: str
    p: float
    verdict: str

    def sentence(self) -> str:
        """Return the verdict as a sentence for a user."""
        if not self.held_out:
            return "Not measured: to hold labels out, a label is needed on two videos, or on two moments of one."
        what = f"{self.held_out} held-out label{'' if self.held_out == 1 else 's'}"
        if self.verdict == "better":
            return f"The gain on {what} is larger than chance explains (p = {self.p:.2g})."
        if self.verdict == "worse":
            return f"Worse than before on {what} (p = {self.p:.2g}): check the labels, or add more."
        if self.after == self.before:
            return f"No difference on {what}."
        change = "this gain" if self.after > self.before else "this loss"
        return f"With {what}, {change} may be chance (p = {self.p:.2g}): add more labels."


def compare(
    start: Head, embedding_NE: Floats, class_N: Ints, groups: Groups, spread: Spread, generator: np.random.Generator
) -> Comparison:
    """Compare zero-shot with trained heads by cross-validation.

    Args:
        start, embedding_NE, class_N, spread: see `train_head`.
        groups: labels that must be held out together, because their windows show the same.
        generator: draws the folds.
    """
    fold_N = draw_folds(class_N, groups.group_N, generator)
    before_N = start.logits(embedding_NE).argmax(axis=1) == class_N
    after_N = np.zeros(len(class_N), bool)
    held = fold_N >= 0
    for fold in np.unique(fold_N[held]):
        test, train = fold_N == fold, fold_N != fold
        head = train_head(start, embedding_NE[train], class_N[train], spread)
        after_N[test] = head.logits(embedding_NE[test]).argmax(axis=1) == class_N[test]
    count = int(held.sum())
    if not count:
        return Comparison(math.nan, math.nan, 0, len(class_N), "none", math.nan, "unclear")
    mended, broken = int((after_N & ~before_N)[held].sum()), int((before_N & ~after_N)[held].sum())
    p = sign_test(mended, broken)
    verdict = "unclear" if p >= 0.05 else "better" if mended > broken else "worse"
    before, after = float(before_N[held].mean()), float(after_N[held].mean())
    return Comparison(before, after, count, len(class_N) - count, groups.kind, p, verdict)


@dataclass(frozen=True)
class Groups:
    """The group of each label, (N,), and whether a group is a "video" or a "moment" (overlapping windows)."""

    group_N: Ints  # noqa: N815
    kind: str


def group_windows(keys: Sequence[tuple[str, float, float]], class_N: Ints) -> Groups:
    """Group windows by video, or by moment if a class with several labels has them all in one video.

    Args:
        keys: path, start and end of each window.
        class_N: class of each window.
    """
    paths = {path: i for i, path in enumerate(dict.fromkeys(path for path, _, _ in keys))}
    video_N = np.array([paths[path] for path, _, _ in keys], dtype=np.int64)
    counts = [(int((class_N == k).sum()), len(np.unique(video_N[class_N == k]))) for k in np.unique(class_N)]
    if all(videos >= _MIN_HELD_OUT or labels < _MIN_HELD_OUT for labels, videos in counts):
        return Groups(video_N, "video")
    group_N = np.empty(len(keys), np.int64)
    group, until, last = -1, 0.0, ""
    for i in sorted(range(len(keys)), key=lambda i: keys[i]):
        path, start, end = keys[i]
        if path != last or start >= until:
            group, until = group + 1, end
        until, last = max(until, end), path
        group_N[i] = group
    return Groups(group_N, "moment")


def draw_folds(class_N: Ints, group_N: Ints, generator: np.random.Generator) -> Ints:
    """Return the fold in which each label is held out, (N,): all of a group in one, each class in about equal shares.

    A label that no fold may hold out, because its class has labels in fewer than two groups, has fold -1.

    Args:
        class_N: class of each label.
        group_N: group of each label.
        generator: draws the order of the groups.
    """
    groups_of = {int(k): len(np.unique(group_N[class_N == k])) for k in np.unique(class_N)}
    held_N = np.array([groups_of[int(k)] >= _MIN_HELD_OUT for k in class_N], dtype=bool)
    fold_N = np.full(len(class_N), -1, np.int64)
    if not held_N.any():
        return fold_N
    folds = min(_FOLDS, min(n for n in groups_of.values() if n >= _MIN_HELD_OUT))
    filled = np.zeros((folds, int(class_N.max()) + 1))
    groups = generator.permutation(np.unique(group_N[held_N]))
    size = {int(group): int((group_N == group).sum()) for group in groups}
    for group in sorted(groups.tolist(), key=lambda group: -size[group]):
        members = (group_N == group) & held_N
        count_K = np.bincount(class_N[members], minlength=filled.shape[1])
        # the fold that has the least of the group's classes, then the least of all
        fold = min(range(folds), key=lambda f: (float((filled[f] * count_K).sum()), float(filled[f].sum())))
        fold_N[members] = fold
        filled[fold] += count_K
    return fold_N


def sign_test(one: int, other: int) -> float:
    """Return the probability, two-sided, that `one + other` fair coins fall as unevenly as this or more."""
    total = one + other
    tail = sum(math.comb(total, i) for i in range(min(one, other) + 1))
    return float(min(1.0, 2 * tail / 2**total))


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as a dict for JSON; NaN becomes None."""
    values = vars(comparison)
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
