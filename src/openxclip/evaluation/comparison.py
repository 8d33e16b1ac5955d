"""Whether one model is better than another, or only luckier: a paired bootstrap over the same samples."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from openxclip.errors import OpenXCLIPError
from openxclip.evaluation.results import EvaluationProtocol, Results

_LEVEL = 0.95


@dataclass(frozen=True)
class Comparison:
    """How the top-1 of two results differs; in retrieval, the R@1 from text to video.

    Attributes:
        samples: how many both are over.
        first, second: top-1 of each, from 0 to 1.
        difference: the first less the second.
        low, high: the bootstrap's 95 % interval of the difference.
        p_value: how often models that are equally good would differ by as much or more, either way.
        only_first_right, only_second_right: samples that one has right and the other hasn't.
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
            f"({self.samples} samples, of which {self.only_first_right} only the first has right and "
            f"{self.only_second_right} only the second)"
        )


def compare(
    first: Results,
    second: Results,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    may_differ: Collection[str] = (),
) -> Comparison:
    """The difference of two results over the same samples, and what chance makes of it.

    Samples are drawn anew, with replacement, and each counts for both results (Efron and Tibshirani, "An Introduction
    to the Bootstrap", 1993: the percentile interval of section 13, and the test of section 16, in which the resampled
    differences are moved so that their mean is 0). A sample can only count +1, 0 or -1, so that how often each is drawn
    has a multinomial distribution: drawing that is the same, and takes no list of samples.

    Args:
        first, second: whole results, of the same data and protocol.
        resamples: how often samples are drawn anew.
        seed: of the draws.
        may_differ: names of the protocol in which they may differ, such as "use_prompts", where that is the question.

    Raises:
        ValueError: they are of other data, samples or protocols, which is named; or an argument that can't be.
    """
    _check_alike(first, second, may_differ)
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: must be 1 or more.")
    first_N = np.array([one.is_right() for one in first.predictions])
    second_N = np.array([one.is_right() for one in second.predictions])
    number = len(first_N)
    better, worse = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    shares = np.array([better, worse, number - better - worse]) / number
    drawn_R3 = np.random.default_rng(seed).multinomial(number, shares, size=resamples)
    differences_R = drawn_R3[:, 0] - drawn_R3[:, 1]  # times `number`, so that whole numbers are compared
    low, high = np.quantile(differences_R, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]) / number
    observed = better - worse
    as_far = int((abs(differences_R - observed) >= abs(observed)).sum())
    return Comparison(
        samples=number,
        first=float(first_N.mean()),
        second=float(second_N.mean()),
        difference=observed / number,
        low=float(low),
        high=float(high),
        p_value=(as_far + 1) / (resamples + 1),  # the observed one is a draw too: none is ever 0
        only_first_right=better,
        only_second_right=worse,
    )


def compare_files(first: str | Path, second: str | Path) -> Comparison:
    """The second file of results against the first, by a paired bootstrap.

    Raises:
        OpenXCLIPError: they can't be read, or aren't of the same videos asked the same way.
    """
    try:
        return compare(Results.load(first), Results.load(second))
    except ValueError as error:
        raise OpenXCLIPError(f"{os.fspath(first)} and {os.fspath(second)} can't be compared: {error}") from error


def _check_alike(first: Results, second: Results, may_differ: Collection[str]) -> None:
    names = [field.name for field in fields(EvaluationProtocol)]
    for name in may_differ:
        if name not in names:
            raise ValueError(f"may_differ has {name!r}: the protocol has {', '.join(names)}.")
    for which, results in (("first", first), ("second", second)):
        if results.part is not None:
            raise ValueError(f"the {which} results are of part {results.part[0]} of {results.part[1]}: merge them.")
        if not results.predictions:
            raise ValueError(f"the {which} results have no samples.")
    differ = [
        f"{what} ({one} and {other})"
        for what, one, other in (
            ("task", first.task, second.task),
            ("data set", first.dataset, second.dataset),
            ("content of the data set", first.dataset_hash[:12], second.dataset_hash[:12]),
            *(
                (f"protocol's {name}", getattr(first.protocol, name), getattr(second.protocol, name))
                for name in names
                if name not in may_differ
            ),
        )
        if one != other
    ]
    if differ:
        raise ValueError(f"the results can't be compared, for they differ in: {'; '.join(differ)}.")
    ours, theirs = ({one.sample: one.label for one in results.predictions} for results in (first, second))
    for which, one, other in (("first", ours, theirs), ("second", theirs, ours)):
        alone = [name for name in one if name not in other]
        if alone:
            raise ValueError(
                f"{len(alone)} samples are in the {which} results only, such as {alone[0]}: both must have read the "
                "same ones."
            )
    if ours != theirs or list(ours) != list(theirs):
        raise ValueError("the results can't be compared: they have other labels, or the samples in another order.")
