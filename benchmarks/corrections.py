"""Measure how many labels it takes to teach mini three actions that it never saw, by the order of the labelled windows.

    OMP_NUM_THREADS=1 python benchmarks/corrections.py [--draws 8] [--small] [--json FILE] [--work DIR]

The actions and clips are those of benchmarks/my_videos.py. Each draw renders a collection of 240 clips and 120 other
clips to test on, and encodes both by mini. A simulated user labels five proposed clips after another, and after each
five the head of `openxclip serve` is trained again. Accuracy on the test clips is printed and written as JSON: means
over draws with 95 % intervals (Student's t), and differences to random order within draws. In the uneven collection,
two thirds of the clips show one action and one of sixteen another.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from my_videos import ACTIONS, write_clips

from openxclip import VideoPipeline
from openxclip.serve.correct.head import Head, Spread, train_head
from openxclip.serve.correct.proposals import Order, propose

ORDERS: dict[str, tuple[Order, int]] = {  # and the labels of each class from which on margins count
    "random": ("random", 0),
    "margin": ("margin", 0),
    "typical": ("typical", 0),
    **{f"typical, then margin from {enough}": ("typical, then margin", enough) for enough in (5, 2, 1)},
}
COUNTS = (5, 10, 15, 20, 30, 40, 60)
BATCH = 5
CLIPS, TEST_CLIPS = 80, 40  # of each action, in the collection and in the test
UNEVEN = (80, 30, 10)  # of each action in the uneven collection


Write = Callable[[Path, int, int], None]  # writes so many clips of each action, by a seed


class Draw(NamedTuple):
    """Embeddings (N, E) of clips, and the class of each (N,)."""

    embedding_NE: np.ndarray[Any, Any]  # noqa: N815
    class_N: np.ndarray[Any, Any]  # noqa: N815

    def part(self, rows: np.ndarray[Any, Any]) -> Draw:
        return Draw(self.embedding_NE[rows], self.class_N[rows])


def encode(pipeline: VideoPipeline, folder: Path, actions: Sequence[str]) -> Draw:
    paths = [path for action in actions for path in sorted((folder / action).glob("*.mp4"))]
    features = [result.features for result in pipeline.encode_videos(paths, batch=8)]
    pooled = torch.cat([part.pooled for part in features if part is not None])
    assert len(pooled) == len(paths)
    classes = np.array([actions.index(path.parent.name) for path in paths])
    return Draw(torch.nn.functional.normalize(pooled.float(), dim=1).numpy(), classes)


def encoded(pipeline: VideoPipeline, folder: Path, clips: int, seed: int, write: Write, actions: Sequence[str]) -> Draw:
    """Render clips into a folder and return their features, which are kept beside it for the next run."""
    features = folder.with_name(f"{folder.name}.npz")
    if features.exists():
        with np.load(features) as kept:
            return Draw(kept["embedding"], kept["class"])
    write(folder, clips, seed)
    draw = encode(pipeline, folder, actions)
    shutil.rmtree(folder)
    np.savez(features, **{"embedding": draw.embedding_NE, "class": draw.class_N})
    return draw


def accuracy(head: Head, test: Draw) -> float:
    return float((head.logits(test.embedding_NE).argmax(axis=1) == test.class_N).mean())


def label(name: str, start: Head, pool: Draw, test: Draw, seed: int, counts: Sequence[int]) -> dict[int, float]:
    """Return the accuracy by the number of labels of a user who labels what is proposed."""
    (order, enough), generator = ORDERS[name], np.random.default_rng(seed)
    spread, head = Spread.of(pool.embedding_NE), start
    labelled_N = np.zeros(len(pool.class_N), bool)
    result = {}
    while (number := int(labelled_N.sum())) < max(counts):
        per_class = np.bincount(pool.class_N[labelled_N], minlength=len(start.classes)).tolist()
        chosen, _ = propose(
            pool.embedding_NE, labelled_N, head.probabilities(pool.embedding_NE), BATCH,
            order=order, labels_per_class=per_class, enough=enough, generator=generator,
        )  # fmt: skip
        labelled_N[chosen] = True
        number = int(labelled_N.sum())
        known = pool.part(labelled_N)
        head = train_head(start, known.embedding_NE, known.class_N, spread)
        if number in counts:
            result[number] = accuracy(head, test)
    return result


# the 97.5 % quantiles of Student's t, by degrees of freedom
T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 11: 2.201, 14: 2.145,
     19: 2.093, 29: 2.045}  # fmt: skip


def interval(values: Sequence[float], most: float = math.inf) -> dict[str, Any]:
    mean, half = float(np.mean(values)), 0.0
    if len(values) > 1:
        half = T.get(len(values) - 1, 1.96 + 2.5 / len(values)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return {"mean": round(mean, 4), "95 %": [round(mean - half, 4), round(min(mean + half, most), 4)]}


def measure(
    draws: int, counts: Sequence[int], clips: int, work: Path, write: Write, actions: Sequence[str]
) -> dict[str, Any]:
    pipeline = VideoPipeline.from_pretrained("mini", device="cpu")
    text_KE = pipeline.encode_texts(list(actions)).numpy()
    start = Head.zero_shot(actions, text_KE, float(pipeline.model.logit_scale.detach().exp()))
    zero_shot: list[float] = []
    by_pool: dict[str, dict[str, list[dict[int, float]]]] = {}
    for draw in range(draws):
        whole = encoded(pipeline, work / f"{draw}, pool, {clips}", clips, 1000 + 2 * draw, write, actions)
        others = clips * TEST_CLIPS // CLIPS
        test = encoded(pipeline, work / f"{draw}, test, {others}", others, 1001 + 2 * draw, write, actions)
        zero_shot.append(accuracy(start, test))
        uneven = [np.flatnonzero(whole.class_N == (k + draw) % 3)[: n * clips // CLIPS] for k, n in enumerate(UNEVEN)]
        for name, pool in (("even", whole), ("uneven", whole.part(np.concatenate(uneven)))):
            for order in ORDERS:
                values = label(order, start, pool, test, draw, counts)
                by_pool.setdefault(name, {}).setdefault(order, []).append(values)
        print(f"draw {draw + 1} of {draws}: zero-shot {100 * zero_shot[-1]:.1f} %", flush=True)
    rows = {
        pool: {
            order: {
                str(count): {
                    **interval([values[count] for values in results], most=1.0),
                    "better than random by": interval(
                        [a[count] - b[count] for a, b in zip(results, by_order["random"], strict=True)]
                    ),
                }
                for count in counts
            }
            for order, results in by_order.items()
        }
        for pool, by_order in by_pool.items()
    }
    return {
        "draws": draws,
        "clips of each action": {"collection": clips, "test": clips * TEST_CLIPS // CLIPS, "uneven": UNEVEN},
        "zero-shot": interval(zero_shot),
        "accuracy": rows,
    }


def show(result: dict[str, Any]) -> None:
    zero = result["zero-shot"]
    print(f"zero-shot: {100 * zero['mean']:.1f} % ({100 * zero['95 %'][0]:.1f} to {100 * zero['95 %'][1]:.1f})")
    for pool, by_order in result["accuracy"].items():
        print(f"\n{pool:30}" + "".join(f"{count:>19}" for count in next(iter(by_order.values()))))
        for order, by_count in by_order.items():
            cells = (
                f"{100 * v['mean']:.1f} ({100 * v['95 %'][0]:.1f} to {100 * v['95 %'][1]:.1f})"
                for v in by_count.values()
            )
            print(f"{order:30}" + "".join(f"{cell:>19}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="3 draws of 72 clips, up to 20 labels")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--work", type=Path, help="keep the features of the clips in this folder, for the next run")
    arguments = parser.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)  # heads are small: more threads cost more than they save
    small, work = arguments.small, arguments.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    result = measure(
        3 if small else arguments.draws,
        COUNTS[:4] if small else COUNTS,
        24 if small else CLIPS,
        work,
        write_clips,
        ACTIONS,
    )
    if arguments.work is None:
        shutil.rmtree(work)
    show(result)
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"\n{time.monotonic() - began:.0f} s; wrote {arguments.json}")


if __name__ == "__main__":
    main()
