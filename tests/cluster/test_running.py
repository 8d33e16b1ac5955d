"""Handing out chunks and trying again what ended a worker, on a Ray without processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_ray import Died, FakeRay, ListedResults, ListedWorker

from openxclip.cluster import connecting
from openxclip.cluster import pool as pools
from openxclip.cluster.actors import State
from openxclip.cluster.feeding import Feed
from openxclip.cluster.placing import Layout
from openxclip.cluster.pool import Pool
from openxclip.cluster.reporting import Totals
from openxclip.cluster.running import Run
from openxclip.errors import CheckpointError, ClusterError, StoreError, TooManyFailuresError, VideoIndexError
from openxclip.search.bulk.items import SourceItem

pytest.importorskip("ray")
VIDEOS = [f"{number:03}.mp4" for number in range(100)]


class Trial:
    """One run over 100 videos."""

    def __init__(self, ray: FakeRay, monkeypatch: pytest.MonkeyPatch, max_failures: int | None = None) -> None:
        monkeypatch.setattr(pools, "_LOOKS_EVERY_S", 0.0)
        monkeypatch.setattr(connecting, "_reach", ray.reach)
        self.results, self.said = ListedResults(), list[str]()
        feed = Feed(iter([[SourceItem(path, 1000) for path in VIDEOS]]))
        job: Any = type("Job", (), {"environment": {}})()
        pool = Pool(ray, job, Layout(), self.said.append)
        totals = Totals(lambda: (len(VIDEOS), True), max_failures)
        self.run = Run(ray, pool, feed, self.results, totals, on_look=lambda: None, say=self.said.append)

    def work(self) -> list[str]:
        self.run.work()
        return sorted(self.results.done)


def once(kind: Callable[[], BaseException], path: str) -> Callable[[str], None]:
    """Trouble with a path at its first time."""
    times = iter([True])

    def trouble(seen: str) -> None:
        if seen == path and next(times, False):
            raise kind()

    return trouble


def always(kind: Callable[[], BaseException], *paths: str) -> Callable[[str], None]:
    def trouble(seen: str) -> None:
        if seen in paths:
            raise kind()

    return trouble


def test_each_video_is_handled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(FakeRay(lambda node: ListedWorker(), one=2, two=1), monkeypatch)
    assert trial.work() == VIDEOS
    assert trial.said == []


def test_videos_of_a_worker_that_ended_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = once(Died, "042.mp4")
    trial = Trial(FakeRay(lambda node: ListedWorker(trouble), one=2), monkeypatch)
    assert trial.work() == VIDEOS
    assert trial.results.failed == []
    assert trial.said == ["one (10.0.0.1): a worker ended (it crashed or was killed); its videos are tried again."]


def test_the_video_that_ends_workers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = always(Died, "042.mp4")
    trial = Trial(FakeRay(lambda node: ListedWorker(trouble), one=2), monkeypatch)
    assert trial.work() == [path for path in VIDEOS if path != "042.mp4"]
    reason = "the process that indexed it ended: it crashed or was killed"
    assert trial.results.failed == [("042.mp4", reason, 3)]
    assert trial.run.crashes == 3


def test_errors_that_may_pass_are_tried_again_and_then_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    def trouble(seen: str) -> None:
        always(lambda: StoreError("s3://b: no answer.", may_pass=True), "007.mp4")(seen)
        first(seen)

    first = once(lambda: StoreError("s3://b: no answer.", may_pass=True), "070.mp4")
    trial = Trial(FakeRay(lambda node: ListedWorker(trouble), one=1), monkeypatch)
    assert trial.work() == [path for path in VIDEOS if path != "007.mp4"]
    assert trial.results.failed == [("007.mp4", "StoreError: s3://b: no answer.", 3)]


def test_errors_that_concern_all_videos_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = always(lambda: VideoIndexError("the index is damaged."), "007.mp4")
    with pytest.raises(ClusterError, match=r"^one \(10.0.0.1\): the index is damaged\.$"):
        Trial(FakeRay(lambda node: ListedWorker(trouble), one=1), monkeypatch).work()


def test_a_machine_without_the_model_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking(ListedWorker):
        def prepare(self) -> str:
            raise CheckpointError("/models/x: there is no such folder.")

    trial = Trial(FakeRay(lambda node: Lacking() if node == "two" else ListedWorker(), one=1, two=1), monkeypatch)
    assert trial.work() == VIDEOS
    assert trial.said == ["two (10.0.0.1): /models/x: there is no such folder. It gets no work."]
    with pytest.raises(ClusterError, match=r"^(one|two) \(10.0.0.1\): /models/x: there is no such folder\.$"):
        Trial(FakeRay(lambda node: Lacking(), one=1, two=1), monkeypatch).work()


def test_a_machine_whose_workers_end_at_the_start_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ending(ListedWorker):
        def prepare(self) -> str:
            raise Died

    trial = Trial(FakeRay(lambda node: Ending() if node == "two" else ListedWorker(), one=1, two=1), monkeypatch)
    assert trial.work() == VIDEOS
    with pytest.raises(ClusterError, match="3 workers ended while starting: it crashed or was killed"):
        Trial(FakeRay(lambda node: Ending(), one=1), monkeypatch).work()


def test_machines_leave_and_join(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(lambda node: ListedWorker(), one=1, two=1)
    trial = Trial(ray, monkeypatch)
    waits = 0

    def change() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            ray.lose("two")
            ray.lose("one")
        if waits == 6:
            ray.alive["three"] = 2

    ray.on_wait = change
    monkeypatch.setattr("openxclip.cluster.running._WAITS_S", 0.01)
    monkeypatch.setattr("openxclip.cluster.running.time.sleep", lambda seconds: change())
    assert trial.work() == VIDEOS
    assert trial.results.failed == []
    assert {"one (10.0.0.1) left the cluster.", "three (10.0.0.1) joined the cluster."} <= set(trial.said)


@pytest.mark.parametrize("killed", [1, 3, 5])
def test_a_machine_whose_check_is_killed_is_checked_again(killed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(lambda node: ListedWorker(), one=1, two=1)
    ray.killed_checks = killed
    monkeypatch.setattr("openxclip.cluster.running._WAITS_S", 0.01)
    trial = Trial(ray, monkeypatch)
    assert trial.work() == VIDEOS
    assert sum("doesn't run tasks" in message for message in trial.said) == (killed == 5)  # three times for the first
    ray.killed_checks = 6
    with pytest.raises(ClusterError, match="doesn't run tasks: the process died"):
        Trial(ray, monkeypatch).work()


@pytest.mark.parametrize("returns", [True, False])
def test_a_head_that_does_not_answer_is_waited_for(returns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own calls would wait for it, and then end the process."""
    ray = FakeRay(lambda node: ListedWorker(), one=1)
    trial = Trial(ray, monkeypatch)
    waits = 0

    def change() -> None:
        nonlocal waits
        waits += 1
        ray.has_head = waits < 3 or (returns and waits > 5)

    ray.on_wait = change
    monkeypatch.setattr(connecting, "_HEAD_LOST_S", 60.0 if returns else 0.0)
    if returns:
        assert trial.work() == VIDEOS
    else:
        with pytest.raises(ClusterError, match=r"10.0.0.1:6379 was lost. What is done is kept: start a cluster, and"):
            trial.work()
    assert sum("doesn't answer (Connection refused): waiting." in message for message in trial.said) == 1


def test_a_chunk_that_is_in_hand_and_has_returned_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(ListedWorker):
        """Its answers say that it still has the last chunk in hand."""

        chunks = videos = 0

        def process(self, items: Any) -> list[str]:
            self.chunks, self.videos = self.chunks + 1, len(items)
            return super().process(items)

        def state(self) -> State:
            return State(videos=self.videos, chunk=self.chunks)

    monkeypatch.setattr("openxclip.cluster.running._ASKS_EVERY_S", 0.0)
    trial = Trial(FakeRay(lambda node: Late(), one=2), monkeypatch)
    seen: list[int] = []
    trial.run._on_look = lambda: seen.append(trial.run._totals.report().videos)
    trial.work()
    assert seen[-1] == max(seen) == len(VIDEOS)
    assert seen == sorted(seen)


def test_too_many_failures_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = always(lambda: RuntimeError("strange"), *VIDEOS[:5])
    with pytest.raises(TooManyFailuresError) as caught:
        Trial(FakeRay(lambda node: ListedWorker(trouble), one=1), monkeypatch, max_failures=2).work()
    assert "3 of " in str(caught.value)
    assert "failed, more than 2, so the run was stopped" in str(caught.value)
    assert str(caught.value).endswith("The reasons: 3 × RuntimeError: strange")


def test_a_cluster_without_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="no machine of the cluster gives a CPU core"):
        Trial(FakeRay(lambda node: ListedWorker(), one=0), monkeypatch).work()
