"""Compare two models by a paired bootstrap over the same samples."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.results import Results

_LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """Difference of the top-1 accuracy of two results; retrieval uses R@1 from text to video instead.

    Attributes:
        samples: number of samples in both results.
        first, second: top-1 of each, from 0 to 1.
        difference: first minus second.
        low, high: 95 % interval of the difference by the bootstrap.
        p_value: probability that equally good models differ by as much or more in either direction.
        only_first_right, only_second_right: number of samples that only this model classifies correctly.
    """

    samples: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    only_first_right: int
    only_second_right: int

    def __str__(self) -> str:
        return (
            f"{100 * self.first:.2f} % and {100 * self.second:.2f} %: {100 * self.difference:+.2f} points, "
            f"95 % interval {100 * self.low:+.2f} to {100 * self.high:+.2f}, p = {self.p_value:.4f} "
            f"({self.samples} samples; {self.only_first_right} only the first has right, {self.only_second_right} only "
            "the second)"
        )


def compare(first: Results, second: Results, *, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Return the difference of two results over the same samples, and how likely such a difference is by chance.

    The samples are resampled with replacement, in pairs (Efron and Tibshirani, "An Introduction to the Bootstrap",
    1993: the percentile interval of section 13, and the test of section 16, in which the resampled differences are
    shifted to a mean of 0). Each pair adds +1, 0 or -1 to the difference, so the counts of these in a resample have a
    multinomial distribution, from which they are drawn directly.

    Args:
        first, second: results of a whole dataset, with the same data and protocol.
        resamples: number of resamples.
        seed: seeds the random generator.

    Raises:
        ValueError: the results have different data, samples or protocols, or `resamples` is below 1.
    """
    _check_comparable(first, second)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: must be 1 or more.")
    first_N = np.array([prediction.is_right() for prediction in first.predictions])
    second_N = np.array([prediction.is_right() for prediction in second.predictions])
    number = len(first_N)
    only_first, only_second = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    shares = np.array([only_first, only_second, number - only_first - only_second]) / number
    drawn_R3 = np.random.default_rng(seed).multinomial(number, shares, size=resamples)
    differences_R = drawn_R3[:, 0] - drawn_R3[:, 1]  # times `number`, so that integers are compared
    low, high = np.quantile(differences_R, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]) / number
    observed = only_first - only_second
    num_extreme = int((abs(differences_R - observed) >= abs(observed)).sum())
    return Comparison(
        samples=number,
        first=float(first_N.mean()),
        second=float(second_N.mean()),
        difference=observed / number,
        low=float(low),
        high=float(high),
        p_value=(num_extreme + 1) / (resamples + 1),  # includes the observed one, so it is never 0
        only_first_right=only_first,
        only_second_right=only_second,
    )


def compare_files(first: str | Path, second: str | Path) -> Comparison:
    """Compare two files of results; see `compare`.

    Raises:
        OpenXCLIPError: a file can't be read, or the results have different data or protocols.
    """
    try:
        return compare(Results.load(first), Results.load(second))
    except ValueError as error:
        raise OpenXCLIPError(f"{os.fspath(first)} and {os.fspath(second)} can't be compared: {error}") from error


def _check_comparable(first: Results, second: Results) -> None:
    for which, results in (("first", first), ("second", second)):
        if results.part is not None:
            raise ValueError(f"the {which} results are of part {results.part[0]} of {results.part[1]}: merge them.")
        if not results.predictions:
            raise ValueError(f"the {which} results have no samples.")
    ours, theirs = _settings_of(first), _settings_of(second)
    different = [f"{name} ({ours[name]} and {theirs[name]})" for name in ours if ours[name] != theirs[name]]
    if different:
        raise ValueError(f"the results differ in {'; '.join(different)}.")
    first_labels, second_labels = (
        {prediction.sample: prediction.label for prediction in results.predictions} for results in (first, second)
    )
    for which, samples, others in (("first", first_labels, second_labels), ("second", second_labels, first_labels)):
        missing = [name for name in samples if name not in others]
        if missing:
            raise ValueError(
                f"{len(missing)} samples are only in the {which} results, such as {missing[0]}: both must have the "
                "same samples."
            )
    if list(first_labels.items()) != list(second_labels.items()):
        raise ValueError("the labels or the order of the samples differ.")


def _settings_of(results: Results) -> dict[str, Any]:
    """Return the settings that must be the same in results that are compared, by name."""
    settings = {"task": results.task, "dataset": results.dataset, "content of the dataset": results.dataset_hash[:12]}
    return settings | {f"protocol's {name}": value for name, value in vars(results.protocol).items()}
