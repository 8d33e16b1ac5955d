"""The head that learns from labels of windows, and how it is compared with zero-shot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from openxclip.errors import CheckpointError
from openxclip.serve.correct.head import Groups, Head, Spread, compare, draw_folds, group_windows, sign_test, train_head

WIDTH = 12
CLASSES = ("waves", "sits", "jumps")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def windows(per_class: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings that share a direction, and differ in one that depends on the class."""
    draw = np.random.default_rng(seed)
    class_N = np.repeat(np.arange(3), per_class)
    shared = np.full(WIDTH, 1.0)
    rows = shared + 1.5 * np.eye(WIDTH)[class_N] + 0.3 * draw.normal(size=(len(class_N), WIDTH))
    return unit(rows), class_N


@pytest.fixture
def start() -> Head:
    """Texts that name the classes wrongly: each class looks like the text of the next one."""
    return Head.zero_shot(CLASSES, np.roll(np.eye(3, WIDTH), 1, axis=0), 10.0)


def accuracy(head: Head, embedding_NE: np.ndarray, class_N: np.ndarray) -> float:
    return float((head.logits(embedding_NE).argmax(axis=1) == class_N).mean())


def test_without_labels_the_head_is_zero_shot(start: Head) -> None:
    embedding_NE, class_N = windows(4)
    head = train_head(start, embedding_NE[:0], class_N[:0], Spread.of(embedding_NE))
    assert head is start
    cosines = embedding_NE @ np.roll(np.eye(3, WIDTH), 1, axis=0).T
    np.testing.assert_allclose(head.logits(embedding_NE), 10 * cosines, rtol=1e-5)


def test_labels_of_one_class_teach_nothing(start: Head) -> None:
    embedding_NE, class_N = windows(4)
    assert train_head(start, embedding_NE[:4], class_N[:4], Spread.of(embedding_NE)) is start


def test_a_few_labels_mend_wrong_texts(start: Head) -> None:
    embedding_NE, class_N = windows(8)
    test_NE, truth_N = windows(50, seed=1)
    head = train_head(start, embedding_NE, class_N, Spread.of(embedding_NE))
    assert accuracy(start, test_NE, truth_N) < 0.1
    assert accuracy(head, test_NE, truth_N) > 0.9
    assert head.labels == 24


def test_a_large_penalty_leaves_only_the_scale_to_change() -> None:
    embedding_NE, class_N = windows(2)
    start, spread = Head.zero_shot(CLASSES, np.eye(3, WIDTH), 10.0), Spread.of(embedding_NE)

    def distance(penalty: float) -> float:
        weight_KE = train_head(start, embedding_NE, class_N, spread, penalty=penalty).weight_KE
        scale = (weight_KE * start.weight_KE).sum() / (start.weight_KE**2).sum()
        return float(np.abs(weight_KE - scale * start.weight_KE).max())

    assert distance(1e6) < 1e-3 < distance(1e-2)


def test_a_class_without_labels_keeps_its_text() -> None:
    embedding_NE, class_N = windows(6)
    start = Head.zero_shot(CLASSES, np.eye(3, WIDTH), 10.0)
    two = class_N < 2
    head = train_head(start, embedding_NE[two], class_N[two], Spread.of(embedding_NE))
    scale = head.weight_KE[2, 2] / start.weight_KE[2, 2]
    assert scale > 0.1
    np.testing.assert_allclose(head.weight_KE[2], scale * start.weight_KE[2], rtol=1e-5)
    assert head.bias_K[2] == 0


def test_the_penalty_means_the_same_for_models_of_another_spread(start: Head) -> None:
    """Features that are squeezed together around their mean give the same answers."""
    embedding_NE, class_N = windows(6)
    mean_E = embedding_NE.mean(axis=0)
    answers = []
    for factor in (1.0, 0.1):
        rows_NE = (mean_E + factor * (embedding_NE - mean_E)).astype(np.float32)
        flat = Head(
            CLASSES, np.zeros((3, WIDTH), np.float32), np.zeros(3, np.float32)
        )  # no zero-shot to change with it
        head = train_head(flat, rows_NE, class_N, Spread.of(rows_NE))
        answers.append(head.probabilities(rows_NE))
    np.testing.assert_allclose(*answers, atol=0.02)


def test_a_head_is_saved_and_loaded(start: Head, tmp_path: Path) -> None:
    start.save(tmp_path / "heads" / "default.safetensors")
    loaded = Head.load(tmp_path / "heads" / "default.safetensors")
    assert (loaded.classes, loaded.model, loaded.labels) == (start.classes, start.model, start.labels)
    np.testing.assert_array_equal(loaded.weight_KE, start.weight_KE)
    np.testing.assert_allclose(loaded.probabilities(windows(2)[0]).sum(axis=1), 1, rtol=1e-5)


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        Head.load(tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="not a head"):
        Head.load(tmp_path / "b.safetensors")


# -- accuracy ----------------------------------------------------------------------------------------------------------


def videos_of(class_N: np.ndarray) -> Groups:
    return Groups(np.arange(len(class_N)), "video")


def test_a_gain_on_held_out_labels_is_found(start: Head) -> None:
    embedding_NE, class_N = windows(10)
    found = compare(start, embedding_NE, class_N, videos_of(class_N), Spread.of(embedding_NE), np.random.default_rng(0))
    assert (found.held_out, found.left_out, found.verdict) == (30, 0, "better")
    assert found.before < 0.1 < 0.8 < found.after
    assert found.p < 0.01
    assert "larger than chance" in found.sentence()


def test_labels_that_mean_nothing_give_no_gain() -> None:
    draw = np.random.default_rng(0)
    embedding_NE, class_N = unit(draw.normal(size=(60, WIDTH))), draw.integers(0, 3, 60)
    start = Head.zero_shot(CLASSES, draw.normal(size=(3, WIDTH)), 10.0)
    found = compare(start, embedding_NE, class_N, videos_of(class_N), Spread.of(embedding_NE), draw)
    assert found.after < 0.6, "held-out labels must not be trained on"
    assert found.verdict == "unclear"


def test_with_few_labels_no_gain_is_claimed(start: Head) -> None:
    embedding_NE, class_N = windows(1)
    rows = np.array([0, 0, 1, 1])
    found = compare(
        start, embedding_NE[rows], class_N[rows], videos_of(rows), Spread.of(embedding_NE), np.random.default_rng(0)
    )
    assert found.held_out == 4
    assert found.verdict == "unclear"
    assert "may be chance" in found.sentence()


def test_a_class_with_one_label_is_never_held_out(start: Head) -> None:
    embedding_NE, class_N = windows(3)
    rows = np.array([0, 1, 2, 3, 4, 5, 6])
    found = compare(
        start, embedding_NE[rows], class_N[rows], videos_of(rows), Spread.of(embedding_NE), np.random.default_rng(0)
    )
    assert (found.held_out, found.left_out) == (6, 1)


def test_without_labels_to_hold_out_nothing_is_measured(start: Head) -> None:
    embedding_NE, class_N = windows(1)
    found = compare(start, embedding_NE, class_N, videos_of(class_N), Spread.of(embedding_NE), np.random.default_rng(0))
    assert np.isnan(found.before)
    assert (found.held_out, found.groups) == (0, "none")
    assert "Not measured" in found.sentence()


def test_folds_hold_out_whole_groups_and_shares_of_each_class() -> None:
    class_N = np.repeat([0, 1], [40, 20])
    group_N = np.arange(60) // 4
    fold_N = draw_folds(class_N, group_N, np.random.default_rng(0))
    for group in range(15):
        assert len(set(fold_N[group_N == group])) == 1
    for k, size in ((0, 40), (1, 20)):
        counts = np.bincount(fold_N[class_N == k], minlength=5)
        assert counts.sum() == size
        assert counts.max() - counts.min() <= 4


def test_windows_are_grouped_by_video_where_each_class_has_two() -> None:
    keys = [("a", 0.0, 1.0), ("a", 5.0, 6.0), ("b", 0.0, 1.0), ("b", 5.0, 6.0)]
    by_video = group_windows(keys, np.array([0, 1, 0, 1]))
    assert (by_video.kind, by_video.group_N.tolist()) == ("video", [0, 0, 1, 1])


def test_windows_of_one_video_are_grouped_where_they_overlap() -> None:
    keys = [("a", 4.0, 6.0), ("a", 0.0, 2.0), ("a", 1.0, 3.0), ("a", 6.0, 8.0)]
    by_moment = group_windows(keys, np.array([0, 0, 1, 1]))
    assert by_moment.kind == "moment"
    first, second, third, fourth = by_moment.group_N.tolist()
    assert second == third
    assert len({first, second, fourth}) == 3


@pytest.mark.parametrize(
    ("one", "other", "p"), [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (3, 3, 1.0), (9, 1, 22 / 1024)]
)
def test_the_sign_test_is_exact(one: int, other: int, p: float) -> None:
    assert sign_test(one, other) == pytest.approx(p)


def test_equal_windows_with_different_labels_end_in_their_shares() -> None:
    same_NE = np.tile(np.eye(1, WIDTH, dtype=np.float32), (40, 1))
    start = Head.zero_shot(CLASSES[:2], np.eye(2, WIDTH), 1.0)
    head = train_head(start, same_NE, np.repeat([0, 1], [10, 30]), Spread.of(same_NE))
    assert head.probabilities(same_NE)[0, 1] == pytest.approx(0.75, abs=0.1)
