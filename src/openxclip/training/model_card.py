"""The model card of a training's result."""

from __future__ import annotations

from collections import Counter

from openxclip.datasets import Dataset
from openxclip.evaluation.results import Results
from openxclip.recipes import Recipe


def card(recipe: Recipe, dataset: Dataset, results: Results | None, *, steps: int, epoch: int, unreadable: int) -> str:
    """README.md of the folder: recipe, data, protocol, results, those of each class too.

    Args:
        recipe, dataset: of the training.
        results: of the model; None if it wasn't judged.
        steps: that were taken.
        epoch: whose weights the model has, counted from 1.
        unreadable: how many videos could not be read.
    """
    best = f" (the best {recipe.metric or 'top1'})" if recipe.keep == "best" else ""
    lines = [
        "---", "library_name: openxclip", "pipeline_tag: video-classification", "tags:", "- x-clip", "---", "",
        f"# X-CLIP trained on {dataset.name}", "",
        f"Started from `{recipe.model}`; {steps} steps of {recipe.batch} clips by `openxclip train`; the "
        f"weights are those after epoch {epoch} of {recipe.epochs}{best}.", "",
        "## Data", "",
        f"{len(dataset.samples)} clips of {len(dataset.classes)} classes"
        if dataset.classes else f"{len(dataset.samples)} clips with captions",
        f"(SHA-256 of the list `{dataset.hash()[:16]}…`); {unreadable} of them could not be read"
        + (f", and {dataset.num_missing()} more videos were missing." if dataset.missing else "."), "",
    ]  # fmt: skip
    if dataset.classes:
        lines += ["Classes: " + ", ".join(dataset.classes), ""]
    lines += ["## Results", ""]
    if results is None:
        lines += ["It was judged by no other clips: the recipe names none.", ""]
    else:
        protocol = results.protocol
        lines += [
            f"On {results.dataset} ({len(results.predictions)} videos read, {len(results.errors)} not; "
            f"{protocol.num_clips} x {protocol.num_crops} views of {protocol.num_frames} frames):", "",
            str(results), "", *_of_classes(results),
        ]  # fmt: skip
    lines += ["## Recipe", "", "```yaml", *recipe_lines(recipe), "```", ""]
    return "\n".join(lines)


def _of_classes(results: Results) -> list[str]:
    """A table with a row for each class; nothing where there are captions."""
    if results.task != "classification":
        return []
    videos, right, taken = Counter[int](), Counter[int](), Counter[int]()
    for one in results.predictions:
        videos[one.label] += 1
        right[one.label] += one.is_right()
        taken[one.top[0][0]] += 1
    lines = ["| class | videos | right | recall | precision |", "|---|---|---|---|---|"]
    for i, name in enumerate(results.classes):
        shares = [f"{100 * right[i] / of[i]:.1f} %" if of[i] else "–" for of in (videos, taken)]
        lines.append(f"| {name.replace('|', chr(92) + '|')} | {videos[i]} | {right[i]} | {shares[0]} | {shares[1]} |")
    return [*lines, ""]


def recipe_lines(recipe: Recipe) -> list[str]:
    """The recipe as YAML that `read_recipe` reads."""
    import yaml

    values = recipe.model_dump(mode="json", exclude_none=True)
    flat = {key: value for key, value in values.items() if not isinstance(value, dict)}
    for part in values.values():
        if isinstance(part, dict):
            flat |= part
    text: str = yaml.safe_dump(flat, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text.splitlines()
