"""`Client`: ask a server and wait for the answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from openxclip.client import requesting
from openxclip.client.answers import FoundMoment, Job, JobEvent, ServedIndex, ServedModel
from openxclip.client.base import DEFAULT_URL, SILENCE, BaseClient, arguments_of, check_status
from openxclip.client.requesting import OnProgress
from openxclip.client.sending import Call, EventReader, Result, Steps, httpx_module, unreachable
from openxclip.client.sources import ClientVideo, as_videos
from openxclip.recognition.results import Classification

if TYPE_CHECKING:
    import httpx

    from openxclip.timelines.timeline import Timeline


class Client(BaseClient):
    """A client of a server that `openxclip serve` started; its methods are those of the library.

    Videos are paths, folders and globs of this machine, bytes or open files, which are sent; or `ServerVideo`, which
    the server has already. A client can be used by several threads. Requests that the server refuses because it is
    busy are sent again.

    Args:
        url: address of the server.
        token: the server's token, if it has one.
        timeout: longest time without a byte in either direction, in seconds; None sets no limit.
        retries: most further tries of a request that is refused with 429, because too many wait.
        max_wait: most seconds to wait between the tries of one request in all.
        transport: another transport of httpx, for tests.

    Raises:
        MissingPackageError: httpx isn't installed.
        ValueError: an argument is invalid.

    All methods raise `ServerError` if the server refuses, fails or can't be reached, and its subclass
    `InvalidRequestError`, a ValueError, for arguments that the server doesn't take.

    Examples:
        >>> from openxclip import Client
        >>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
        ...     client.classify("samples", ["a cat moves left", "an owl vanishes"])[0].outcome
        'a cat moves left'
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout: float | None = 600.0,
        retries: int = 8,
        max_wait: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, token=token, timeout=timeout, retries=retries, max_wait=max_wait)
        self._http: httpx.Client = httpx_module().Client(transport=transport, **self._settings)
        self.index = ClientIndex(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- videos and labels -------------------------------------------------------------------------------------------

    def iter_classify(
        self,
        paths: ClientVideo | Sequence[ClientVideo],
        labels: Sequence[str],
        *,
        top_k: int = 5,
        min_score: float | None = None,
        template: str = "{}",
        head: str | None = None,
    ) -> Iterator[Classification]:
        """Classify videos by labels, and yield each result as soon as it is there.

        Args:
            paths: one or more videos, see `Client`.
            labels, top_k, min_score, template: see `openxclip.iter_classify`.
            head: name of a head that was trained from corrections.

        Returns:
            An iterator over one result for each video, in order. A video that could not be read has `error`.
        """
        options = requesting.classify_options(labels, top_k, min_score, template, head)
        videos = as_videos(paths)
        return (self._run(requesting.classify_one(video, options)) for video in videos)

    def classify(
        self, paths: ClientVideo | Sequence[ClientVideo], labels: Sequence[str], **options: Any
    ) -> list[Classification]:
        """Classify videos by labels; the arguments are those of `iter_classify`.

        Returns:
            One result for each video, in order. A video that could not be read has `error`.
        """
        return list(self.iter_classify(paths, labels, **options))

    def timeline(
        self,
        path: ClientVideo,
        labels: Sequence[str],
        *,
        window: float | None = None,
        stride: float | None = None,
        threshold: float | None = None,
        stop: float | None = None,
        smooth: float | None = None,
        min_duration: float | None = None,
        merge_gap: float | None = None,
        template: str = "{}",
        shots: Literal["sampled", "exact"] | None = None,
        on_progress: OnProgress | None = None,
    ) -> Timeline:
        """Find when labels are seen in one video.

        Args:
            path: the video, see `Client`.
            labels, window, stride, threshold, stop, smooth, min_duration, merge_gap, template, shots: see
                `openxclip.iter_timelines`.
            on_progress: called with the seconds of the video that are done, and its duration (NaN if unknown).

        Returns:
            The timeline, as `openxclip.timeline` returns it. Scores are rounded to 6 digits, times to 1 ms.

        Raises:
            VideoError: the video can't be read.
        """
        options = requesting.timeline_options(
            labels, window=window, stride=stride, threshold=threshold, stop=stop, smooth=smooth,
            min_duration=min_duration, merge_gap=merge_gap, template=template, shots=shots,
        )  # fmt: skip
        return self._run(requesting.timeline_of_one(path, options, on_progress))

    def embed_texts(self, texts: Sequence[str], *, model: str | None = None) -> NDArray[np.float32]:
        """Return the features of N texts, of length 1, as float32 of shape (N, E).

        Args:
            texts: the texts.
            model: name of the model; another one than the server's is refused.
        """
        return self._run(requesting.embed_texts(texts, model))

    def embed_videos(
        self, paths: ClientVideo | Sequence[ClientVideo], *, model: str | None = None
    ) -> NDArray[np.float32]:
        """Return the features of N whole videos, of length 1, as float32 of shape (N, E).

        Each video is sent in one piece, so the server limits its size more than in `classify`.

        Args:
            paths: one or more videos, see `Client`; of `ServerVideo` only addresses.
            model: name of the model; another one than the server's is refused.

        Raises:
            VideoError: a video can't be read.
            ValueError: there are no videos.
        """
        videos = as_videos(paths)
        if not videos:
            raise ValueError("there are no videos.")
        return np.concatenate([self._run(requesting.embed_video(video, model)) for video in videos])

    def search(
        self,
        text: str | None = None,
        *,
        video: ClientVideo | None = None,
        moment: FoundMoment | None = None,
        start: float | None = None,
        end: float | None = None,
        k: int = 10,
        where: str | None = None,
        rerank: int | None = None,
        per_video: int | None = None,
        min_score: float | Literal["auto"] | None = None,
        min_similarity: float | None = None,
        merge: bool = True,
    ) -> list[FoundMoment]:
        """Return the moments of the server's index that are most similar to a text, a video or another moment.

        Args:
            text, video, start, end, k, where, rerank, per_video, min_score, min_similarity, merge: see
                `VideoIndex.search`.
            moment: a hit of an earlier search, whose best window is searched for.

        Raises:
            VideoIndexError: the server has no index.
            VideoError: the video can't be read.
        """
        options = {
            "start": start, "end": end, "k": k, "where": where, "rerank": rerank, "per_video": per_video,
            "min_score": min_score, "min_similarity": min_similarity, "merge": merge,
        }  # fmt: skip
        return self._run(requesting.search(text, video, moment, options))

    # -- models and jobs ---------------------------------------------------------------------------------------------

    def models(self) -> list[ServedModel]:
        """Return the models of the server."""
        return self._run(requesting.models())

    def jobs(self) -> list[Job]:
        """Return the jobs, the newest first."""
        return self._run(requesting.jobs())

    def job(self, job: Job | str) -> Job:
        """Return a job as it is now."""
        return self._run(requesting.job(job))

    def cancel(self, job: Job | str) -> Job:
        """Cancel a job, and return it."""
        return self._run(requesting.job(job, "DELETE"))

    def events(self, job: Job | str) -> Iterator[JobEvent]:
        """Yield the events of a job until it has ended. A broken connection is resumed after the last event."""
        name, last = requesting.job_id(job), ""
        while True:
            call = Call("GET", f"/v1/jobs/{name}/events", headers={"Last-Event-ID": last} if last else {})
            try:
                for event in self._events(call):
                    last = event.id or last
                    yield event
            except httpx_module().TransportError:
                pass  # the job's state tells whether to listen again
            if self.job(name).is_over:
                return
            time.sleep(1)

    def wait(self, job: Job | str) -> Job:
        """Wait until a job is over, and return it.

        Raises:
            OpenXCLIPError: the job failed; the message says why.
        """
        for _ in self.events(job):
            pass
        done = self.job(job)
        if done.error is not None:
            raise done.error
        return done

    # -- requests ----------------------------------------------------------------------------------------------------

    def _run(self, steps: Steps[Result]) -> Result:
        try:
            call = next(steps)
            while True:
                try:
                    response = self._send(call)
                except Exception as error:  # noqa: PERF203 (the operation may go on after it)
                    call = steps.throw(error)
                else:
                    call = steps.send(response)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def _send(self, call: Call) -> httpx.Response:
        tried, waited = 0, 0.0
        while True:
            try:
                with ExitStack() as stack:
                    response = self._once(call, stack)
            except httpx_module().TransportError as error:
                raise unreachable(error, self.url) from error
            tried += 1
            pause = self.retries.pause(response, tried, waited) if call.can_be_repeated() else None
            if pause is None:
                return check_status(call, response)
            time.sleep(pause)
            waited += pause

    def _once(self, call: Call, stack: ExitStack) -> httpx.Response:
        arguments = arguments_of(call, stack)
        if call.on_event is None:
            return self._http.request(call.method, call.path, **arguments)
        response = stack.enter_context(self._http.stream(call.method, call.path, **arguments))
        if response.status_code >= 300:
            response.read()
            return response
        reader = EventReader()
        for line in response.iter_lines():
            if (event := reader.read(line)) is not None:
                call.on_event(event)
        return response

    def _events(self, call: Call) -> Iterator[JobEvent]:
        with self._http.stream(call.method, call.path, headers=dict(call.headers), timeout=SILENCE) as response:
            if response.status_code >= 300:
                response.read()
                check_status(call, response)
            reader = EventReader()
            for line in response.iter_lines():
                if (event := reader.read(line)) is not None:
                    yield JobEvent(id=event.id, kind=event.name, data=event.data)


class ClientIndex:
    """The index of a server; `Client.index` has it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def add(self, paths: str | Sequence[str] = (), *, uploads: ClientVideo | Sequence[ClientVideo] = ()) -> Job:
        """Start a job that adds videos to the index, and return it; `Client.wait` waits until it is done.

        Args:
            paths: files and folders of the server below its roots, or names of roots.
            uploads: videos of this machine, which are sent and kept in the server's collection.

        Raises:
            VideoError: an upload can't be read on this machine.
        """
        return self._client._run(requesting.add_to_index(paths, as_videos(uploads)))

    def info(self) -> ServedIndex:
        """Return what the index holds.

        Raises:
            VideoIndexError: there is no index yet.
        """
        return self._client._run(requesting.index_info())

    def search(self, text: str | None = None, **options: Any) -> list[FoundMoment]:
        """Search the index; see `Client.search`."""
        return self._client.search(text, **options)
