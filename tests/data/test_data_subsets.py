"""Parts of a dataset: which samples they have, and what the random choice depends on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from openxclip.datasets import (
    Dataset,
    DatasetError,
    Sample,
    draw_classes,
    few_shot,
    few_shot_from_list,
    hold_out,
    only_classes,
    with_classes,
    without_classes,
)

CLASSES = ("brush hair", "clap", "run", "walk")
EXPECTED = [
    "brush_hair/v 5.avi",
    "brush_hair/v 8.avi",
    "clap/v 5.avi",
    "clap/v 4.avi",
    "run/v 2.avi",
    "run/v 3.avi",
    "walk/v 1.avi",
    "walk/v 3.avi",
]


def dataset(root: str = "/data", counts: tuple[int, ...] = (10, 7, 8, 9)) -> Dataset:
    samples = [
        Sample(f"{root}/{name.replace(' ', '_')}/v {i}.avi", label=label)
        for label, name in enumerate(CLASSES)
        for i in range(counts[label])
    ]
    return Dataset("d", tuple(samples), CLASSES, ("a problem",), root)


def names(of: Dataset) -> list[str]:
    return [of.name_of(sample) for sample in of.samples]


def test_few_shot_depends_only_on_the_seed_and_the_names() -> None:
    chosen = few_shot(dataset(), 3, seed=0)
    assert [sample.label for sample in chosen.samples] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(set(names(chosen))) == 12
    assert chosen.classes == CLASSES
    assert chosen.problems == ("a problem",)
    turned = replace(dataset(), samples=dataset().samples[::-1])
    assert few_shot(turned, 3, seed=0) == chosen
    assert names(few_shot(dataset("/moved/elsewhere"), 3, seed=0)) == names(chosen)
    assert names(few_shot(dataset(), 3, seed=1)) != names(chosen)
    assert set(names(few_shot(dataset(), 2, seed=0))) < set(names(chosen))


def test_few_shot_never_changes() -> None:
    """A change to the random choice would change published results."""
    assert names(few_shot(dataset(), 2, seed=0)) == EXPECTED


def test_few_shot_draws_evenly() -> None:
    drawn = [name for seed in range(200) for name in names(few_shot(dataset(), 1, seed=seed)) if "brush_hair" in name]
    counts = [drawn.count(f"brush_hair/v {i}.avi") for i in range(10)]
    assert min(counts) > 5  # 20 on average
    assert max(counts) < 40


def test_classes_are_drawn_independently() -> None:
    """Videos with the same name in two classes aren't always drawn together."""
    chosen = [few_shot(dataset(counts=(8, 8, 8, 8)), 1, seed=seed) for seed in range(20)]
    assert any(len({Path(name).name for name in names(each)}) > 1 for each in chosen)


def test_few_shot_counts_each_video_once() -> None:
    twice = replace(dataset(), samples=dataset().samples + dataset().samples)
    assert few_shot(twice, 7, seed=0) == few_shot(dataset(), 7, seed=0)
    segments = [Sample("/data/a.avi", label=i % 4, start=float(i), end=i + 1.0) for i in range(8)]
    assert len(few_shot(replace(dataset(), samples=tuple(segments)), 2, seed=0).samples) == 8


def test_impossible_few_shots_are_refused() -> None:
    with pytest.raises(DatasetError, match="the class 'clap' has 7 videos, but 8 are needed"):
        few_shot(dataset(), 8, seed=0)
    with pytest.raises(ValueError, match="k=0 must be 1 or more"):
        few_shot(dataset(), 0, seed=0)
    with pytest.raises(DatasetError, match="d: has no classes"):
        few_shot(Dataset("d", (Sample("a.mp4", text="a"),)), 1, seed=0)
    with pytest.raises(DatasetError, match=r"d: a\.mp4 has no class"):
        few_shot(replace(dataset(), samples=(Sample("a.mp4"),)), 1, seed=0)


def test_few_shot_from_a_list(tmp_path: Path) -> None:
    whole = replace(dataset(), samples=(*dataset().samples, Sample("/data/s.tar::x/key.mp4", label=1)))
    path = tmp_path / "split 2.txt"
    path.write_bytes("\ufeffrun/v 3.avi 17\r\n\r\nwalk/v 1\r\nbrush_hair/v 9.avi\r\nkey.mp4\r\nwalk/v 8.avi".encode())
    chosen = few_shot_from_list(whole, path)
    assert names(chosen) == ["run/v 3.avi", "walk/v 1.avi", "brush_hair/v 9.avi", "s.tar::x/key.mp4", "walk/v 8.avi"]
    assert [sample.label for sample in chosen.samples] == [2, 3, 0, 1, 3]
    assert chosen.name == "d, split 2"
    for line, message in (
        ("run/v 33.avi", r"line 2: 'run/v 33\.avi' of d is not among its videos"),
        ("v 1.avi", r"line 2: 'v 1\.avi' of d could be /data/brush_hair/v 1\.avi or "),
    ):
        path.write_text(f"run/v 1.avi\n{line}\n")
        with pytest.raises(DatasetError, match=message):
            few_shot_from_list(whole, path)


def test_a_list_takes_all_captions_of_a_video(tmp_path: Path) -> None:
    captions = Dataset("d", tuple(Sample(f"/data/{name}.mp4", text=f"{name}{i}") for name in "ab" for i in range(3)))
    (tmp_path / "l.txt").write_text("b\nb\n")
    assert [sample.text for sample in few_shot_from_list(captions, tmp_path / "l.txt").samples] == ["b0", "b1", "b2"]


def test_hold_out() -> None:
    left, held = hold_out(dataset(), 0.2, seed=0)
    assert {sample.label: 0 for sample in held.samples} == dict.fromkeys(range(4), 0)
    assert [sum(sample.label == label for sample in held.samples) for label in range(4)] == [2, 1, 2, 2]
    assert sorted(names(left) + names(held)) == sorted(names(dataset()))
    assert left.classes == held.classes == CLASSES
    turned = replace(dataset(), samples=dataset().samples[::-1])
    assert set(hold_out(turned, 0.2, seed=0)[1].samples) == set(held.samples)
    assert set(hold_out(dataset(), 0.2, seed=1)[1].samples) != set(held.samples)
    assert len(hold_out(dataset(counts=(2, 2, 2, 2)), 0.01, seed=0)[1].samples) == 4
    assert len(hold_out(dataset(counts=(2, 2, 2, 2)), 0.99, seed=0)[0].samples) == 4


def test_segments_of_a_file_are_held_out_together() -> None:
    samples = [Sample(f"/data/{i}.avi", label=i % 4, start=float(s)) for i in range(20) for s in range(5)]
    left, held = hold_out(replace(dataset(), samples=tuple(samples)), 0.4, seed=0)
    assert not {sample.source for sample in left.samples} & {sample.source for sample in held.samples}
    assert len(held.samples) == 40


def test_hold_out_of_captions() -> None:
    samples = tuple(replace(sample, label=None, text=f"caption {i}") for i, sample in enumerate(dataset().samples))
    captioned = replace(dataset(), samples=samples, classes=())
    left, held = hold_out(captioned, 0.25, seed=0)
    assert set(left.samples) | set(held.samples) == set(samples)
    assert len(held.samples) == round(len({sample.source for sample in samples}) / 4)
    assert set(hold_out(captioned, 0.25, seed=1)[1].samples) != set(held.samples)
    with pytest.raises(DatasetError, match="it has 1 video:"):
        hold_out(replace(captioned, samples=samples[:1]), 0.25, seed=0)


def test_impossible_hold_outs_are_refused() -> None:
    for part in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"part={part} must be above 0 and below 1"):
            hold_out(dataset(), part, seed=0)
    with pytest.raises(DatasetError, match="the class 'run' has 1 video"):
        hold_out(dataset(counts=(2, 2, 1, 2)), 0.5, seed=0)


def test_draw_classes() -> None:
    chosen = draw_classes(dataset(), 2, seed=0)
    assert len(chosen.classes) == 2
    assert chosen.classes == tuple(name for name in CLASSES if name in chosen.classes)
    for sample in chosen.samples:
        assert chosen.classes[sample.label or 0].replace(" ", "_") in sample.source
    assert len(chosen.samples) == sum(
        n for n, name in zip((10, 7, 8, 9), CLASSES, strict=True) if name in chosen.classes
    )
    order = (2, 0, 3, 1)
    other = only_classes(dataset(), [CLASSES[i] for i in order])
    assert set(draw_classes(other, 2, seed=0).classes) == set(chosen.classes)
    assert len({draw_classes(dataset(), 2, seed=seed).classes for seed in range(20)}) > 3
    assert draw_classes(dataset(), 4, seed=7).samples == dataset().samples
    for number in (0, 5):
        with pytest.raises(ValueError, match=f"number={number} must be 1 to 4"):
            draw_classes(dataset(), number, seed=0)


def test_only_and_without_classes() -> None:
    some = only_classes(dataset(), ["Walk", "BrushHair", "walk"])
    assert some.classes == ("walk", "brush hair")
    assert {Path(sample.source).parent.name: sample.label for sample in some.samples} == {"walk": 0, "brush_hair": 1}
    assert without_classes(dataset(), ["run", "brush_hair", "dying hair"]).classes == ("clap", "walk")
    assert [sample.label for sample in without_classes(dataset(), CLASSES[:3]).samples] == [0] * 9
    with pytest.raises(DatasetError, match="d: there is no class 'swim'"):
        only_classes(dataset(), ["run", "swim"])
    for nothing in (lambda: only_classes(dataset(), []), lambda: without_classes(dataset(), CLASSES)):
        with pytest.raises(DatasetError, match="no class with a video is left"):
            nothing()


def test_labels_are_renumbered_by_other_classes() -> None:
    some = only_classes(dataset(), ["walk", "clap"])
    again = with_classes(some, CLASSES)
    assert again.classes == CLASSES
    assert set(again.samples) == {sample for sample in dataset().samples if sample.label in (1, 3)}
    with pytest.raises(DatasetError, match="has the class 'brush hair' and 1 more, which is not one of the 2"):
        with_classes(dataset(), ["clap", "walk"])
    with pytest.raises(DatasetError, match="d: has no classes"):
        with_classes(Dataset("d", (Sample("a.mp4", text="a"),)), CLASSES)
