"""`AsyncClient`: ask a server from code of asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
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


class AsyncClient(BaseClient):
    """`Client` for asyncio: each method is awaited, and iterators are asynchronous.

    Requests of one client may run at the same time, for example with `asyncio.gather`. Files are read in the event
    loop, a piece at a time.

    Args:
        url, token, timeout, retries, max_wait, transport: see `Client`.

    Raises:
        MissingPackageError: httpx isn't installed.
        ValueError: an argument is invalid.

    Examples:
        >>> from openxclip import AsyncClient
        >>> async def outcomes(labels):
        ...     async with AsyncClient("http://127.0.0.1:8000") as client:
        ...         return [result.outcome async for result in client.iter_classify("samples", labels)]
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | None = None,
        timeout: float | None = 600.0,
        retries: int = 8,
        max_wait: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, token=token, timeout=timeout, retries=retries, max_wait=max_wait)
        self._http: httpx.AsyncClient = httpx_module().AsyncClient(transport=transport, **self._settings)
        self.index = AsyncClientIndex(self)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

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
    ) -> AsyncIterator[Classification]:
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
        return self._each(videos, options)

    async def _each(self, videos: list[ClientVideo], options: dict[str, Any]) -> AsyncIterator[Classification]:
        for video in videos:
            yield await self._run(requesting.classify_one(video, options))

    async def classify(
        self, paths: ClientVideo | Sequence[ClientVideo], labels: Sequence[str], **options: Any
    ) -> list[Classification]:
        """Classify videos by labels; the arguments are those of `iter_classify`.

        Returns:
            One result for each video, in order. A video that could not be read has `error`.
        """
        return [result async for result in self.iter_classify(paths, labels, **options)]

    async def timeline(
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
        return await self._run(requesting.timeline_of_one(path, options, on_progress))

    async def embed_texts(self, texts: Sequence[str], *, model: str | None = None) -> NDArray[np.float32]:
        """Return the features of N texts, of length 1, as float32 of shape (N, E).

        Args:
            texts: the texts.
            model: name of the model; another one than the server's is refused.
        """
        return await self._run(requesting.embed_texts(texts, model))

    async def embed_videos(
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
        return np.concatenate([await self._run(requesting.embed_video(video, model)) for video in videos])

    async def search(
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
        return await self._run(requesting.search(text, video, moment, options))

    # -- models and jobs ---------------------------------------------------------------------------------------------

    async def models(self) -> list[ServedModel]:
        """Return the models of the server."""
        return await self._run(requesting.models())

    async def jobs(self) -> list[Job]:
        """Return the jobs, the newest first."""
        return await self._run(requesting.jobs())

    async def job(self, job: Job | str) -> Job:
        """Return a job as it is now."""
        return await self._run(requesting.job(job))

    async def cancel(self, job: Job | str) -> Job:
        """Cancel a job, and return it."""
        return await self._run(requesting.job(job, "DELETE"))

    async def events(self, job: Job | str) -> AsyncGenerator[JobEvent, None]:
        """Yield the events of a job until it has ended. A broken connection is resumed after the last event."""
        name, last = requesting.job_id(job), ""
        while True:
            call = Call("GET", f"/v1/jobs/{name}/events", headers={"Last-Event-ID": last} if last else {})
            try:
                async with aclosing(self._events(call)) as news:
                    async for event in news:
                        last = event.id or last
                        yield event
            except httpx_module().TransportError:
                pass  # the job's state tells whether to listen again
            if (await self.job(name)).is_over:
                return
            await asyncio.sleep(1)

    async def wait(self, job: Job | str) -> Job:
        """Wait until a job is over, and return it.

        Raises:
            OpenXCLIPError: the job failed; the message says why.
        """
        async for _ in self.events(job):
            pass
        done = await self.job(job)
        if done.error is not None:
            raise done.error
        return done

    # -- requests ----------------------------------------------------------------------------------------------------

    async def _run(self, steps: Steps[Result]) -> Result:
        try:
            call = next(steps)
            while True:
                try:
                    response = await self._send(call)
                except Exception as error:  # noqa: PERF203 (the operation may go on after it)
                    call = steps.throw(error)
                else:
                    call = steps.send(response)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _send(self, call: Call) -> httpx.Response:
        tried, waited = 0, 0.0
        while True:
            try:
                async with AsyncExitStack() as stack:
                    response = await self._once(call, stack)
            except httpx_module().TransportError as error:
                raise unreachable(error, self.url) from error
            tried += 1
            pause = self.retries.pause(response, tried, waited) if call.can_be_repeated() else None
            if pause is None:
                return check_status(call, response)
            await asyncio.sleep(pause)
            waited += pause

    async def _once(self, call: Call, stack: AsyncExitStack) -> httpx.Response:
        arguments = arguments_of(call, stack)
        if call.on_event is None:
            return await self._http.request(call.method, call.path, **arguments)
        response = await stack.enter_async_context(self._http.stream(call.method, call.path, **arguments))
        if response.status_code >= 300:
            await response.aread()
            return response
        reader = EventReader()
        async for line in response.aiter_lines():
            if (event := reader.read(line)) is not None:
                call.on_event(event)
        return response

    async def _events(self, call: Call) -> AsyncGenerator[JobEvent, None]:
        async with self._http.stream(call.method, call.path, headers=dict(call.headers), timeout=SILENCE) as response:
            if response.status_code >= 300:
                await response.aread()
                check_status(call, response)
            reader = EventReader()
            async for line in response.aiter_lines():
                if (event := reader.read(line)) is not None:
                    yield JobEvent(id=event.id, kind=event.name, data=event.data)


class AsyncClientIndex:
    """The index of a server; `AsyncClient.index` has it."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    async def add(self, paths: str | Sequence[str] = (), *, uploads: ClientVideo | Sequence[ClientVideo] = ()) -> Job:
        """Start a job that adds videos to the index, and return it; `AsyncClient.wait` waits until it is done.

        Args:
            paths: files and folders of the server below its roots, or names of roots.
            uploads: videos of this machine, which are sent and kept in the server's collection.

        Raises:
            VideoError: an upload can't be read on this machine.
        """
        return await self._client._run(requesting.add_to_index(paths, as_videos(uploads)))

    async def info(self) -> ServedIndex:
        """Return what the index holds.

        Raises:
            VideoIndexError: there is no index yet.
        """
        return await self._client._run(requesting.index_info())

    async def search(self, text: str | None = None, **options: Any) -> list[FoundMoment]:
        """Search the index; see `AsyncClient.search`."""
        return await self._client.search(text, **options)
