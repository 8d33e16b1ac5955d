"""The model card of a trained model."""

from __future__ import annotations

from collections import Counter

from openxclip.config import TimeContract
from openxclip.datasets import Dataset
from openxclip.evaluation.results import Results
from openxclip.recipes import Recipe


def model_card(
    recipe: Recipe,
    dataset: Dataset,
    results: Results | None,
    contract: TimeContract,
    *,
    steps: int,
    epoch: int,
    unreadable: int,
) -> str:
    """Return README.md of the model's folder: data, results overall and by class, and recipe.

    Args:
        recipe: recipe of the training.
        dataset: videos that it trained on.
        results: results of the model, or None if it wasn't evaluated.
        contract: the model's contract of time.
        steps: number of steps of the training.
        epoch: epoch whose weights the model has, counted from 1.
        unreadable: number of videos that could not be read.
    """
    best = f" (the best {recipe.metric or 'top1'})" if recipe.keep == "best" else ""
    kind = f"clips of {len(dataset.classes)} classes" if dataset.classes else "clips with captions"
    missing = f", and {dataset.num_missing()} more videos were missing" if dataset.missing else ""
    lines = [
        "---", "library_name: openxclip", "pipeline_tag: video-classification", "tags:", "- x-clip", "---", "",
        f"# X-CLIP trained on {dataset.name}", "",
        f"Started from `{recipe.model}`; {steps} steps of {recipe.batch} clips by `openxclip train`; the "
        f"weights are those after epoch {epoch} of {recipe.epochs}{best}.", "",
        "## Data", "",
        f"{len(dataset.samples)} {kind}",
        f"(SHA-256 of the list `{dataset.hash()[:16]}…`); {unreadable} of them could not be read{missing}.", "",
    ]  # fmt: skip
    if contract.window is not None:
        lines += [
            f"The median clip lasts {contract.window:g} s, which is the window in which the model looks for moments; "
            f"windows start {contract.stride_seconds:g} s apart.", "",
        ]  # fmt: skip
    if dataset.classes:
        lines += ["Classes: " + ", ".join(dataset.classes), ""]
    lines += ["## Results", ""]
    if results is None:
        lines += ["The model wasn't evaluated: the recipe names no validation data.", ""]
    else:
        protocol = results.protocol
        lines += [
            f"On {results.dataset} ({len(results.predictions)} videos read, {len(results.errors)} not; "
            f"{protocol.num_clips} x {protocol.num_crops} views of {protocol.num_frames} frames):", "",
            str(results), "", *_class_table(results),
        ]  # fmt: skip
    lines += ["## Recipe", "", "```yaml", *recipe_lines(recipe), "```", ""]
    return "\n".join(lines)


def _class_table(results: Results) -> list[str]:
    """Return a table with a row for each class, or nothing if there are captions instead of classes."""
    if results.task != "classification":
        return []
    videos, right, predicted = Counter[int](), Counter[int](), Counter[int]()
    for prediction in results.predictions:
        videos[prediction.label] += 1
        right[prediction.label] += prediction.is_right()
        predicted[prediction.top[0][0]] += 1
    lines = ["| class | videos | right | recall | precision |", "|---|---|---|---|---|"]
    for i, name in enumerate(results.classes):
        recall, precision = (f"{100 * right[i] / total[i]:.1f} %" if total[i] else "–" for total in (videos, predicted))
        escaped = name.replace("|", r"\|")
        lines.append(f"| {escaped} | {videos[i]} | {right[i]} | {recall} | {precision} |")
    return [*lines, ""]


def recipe_lines(recipe: Recipe) -> list[str]:
    """Return the recipe as lines of YAML that `read_recipe` reads."""
    import yaml

    values = recipe.model_dump(mode="json", exclude_none=True)
    flat = {key: value for key, value in values.items() if not isinstance(value, dict)}
    for section in values.values():
        if isinstance(section, dict):
            flat |= section
    text: str = yaml.safe_dump(flat, sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text.splitlines()
