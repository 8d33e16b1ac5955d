"""`embed_on_cluster`: write the features of many videos from many machines."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from openxclip.cluster.jobs import Job, OnVideo, Work, name_for_workers
from openxclip.cluster.parts_of_table import Table
from openxclip.cluster.placing import Layout
from openxclip.cluster.reporting import OnReport
from openxclip.cluster.table_work import TableWork
from openxclip.cluster.tables import TableResult, run_table
from openxclip.errors import VideoError
from openxclip.features.embedding import metadata_of, resuming_options, take_windows
from openxclip.features.files import arrow_array, arrow_schema
from openxclip.features.run import row_of, shapes_of
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline.batching import Batch, check_batch
from openxclip.search.bulk.objects import ambient_options
from openxclip.video import ClipPlan, ReadOptions, VideoSource
from openxclip.video.sampling import Sampling

if TYPE_CHECKING:
    from openxclip.cluster.session import Say
    from openxclip.engine import Precision
    from openxclip.pipeline import VideoPipeline

_UNKNOWN_S = 1.0  # stands for the model's window until a worker has loaded the model


@dataclass(frozen=True, kw_only=True)
class EmbedJob(Job):
    """Writes the features of videos; the attributes are those of `embed`, `plan` without a window that is "auto"."""

    out: str
    plan: ClipPlan
    takes_windows: bool
    patches: bool
    normalize: bool

    def begin(self, pipeline: VideoPipeline, read: ReadOptions, on_video: OnVideo) -> Work:
        """Begin to work in a worker's process."""
        plan = take_windows(pipeline, self.plan) if self.takes_windows else self.plan
        return _EmbedWork(self, pipeline, pipeline.complete_plan(plan), read, on_video)


class _EmbedWork(TableWork):
    def __init__(
        self, job: EmbedJob, pipeline: VideoPipeline, plan: ClipPlan, read: ReadOptions, on_video: OnVideo
    ) -> None:
        self._job, self._pipeline, self._plan, self._read = job, pipeline, plan, read
        metadata = metadata_of(pipeline, plan, job.read, normalize=job.normalize)
        options = {**metadata, **resuming_options(pipeline, plan, job.read, patches=job.patches)}
        del options["model_class"]  # of this kind of pipeline
        schema = arrow_schema(shapes_of(pipeline, plan, 0, patches=job.patches), metadata)
        super().__init__(job.out, options, schema, pipeline, on_video)

    def encode(
        self, sources: Generator[VideoSource, None, None]
    ) -> Generator[tuple[list[dict[str, Any]], VideoError | None, float], None, None]:
        clips = self._pipeline.encode_clips(sources, self._plan, read=self._read, batch=self._job.batch)
        rows: list[dict[str, Any]] = []
        duration = 0.0
        with closing(clips):
            for clip in clips:
                if clip.features is not None:
                    rows.append(row_of(clip, patches=self._job.patches, normalize=self._job.normalize))
                    duration = clip.duration
                else:
                    yield rows, clip.error, duration
                    rows, duration = [], 0.0

    def to_table(self, rows: Sequence[dict[str, Any]]) -> Any:
        import pyarrow as pa

        columns = [pa.array([row["path"] for row in rows], pa.string())]
        columns += [arrow_array(np.stack([row[name] for row in rows])) for name in self.schema.names[1:]]
        return pa.Table.from_arrays(columns, schema=self.schema)


def embed_on_cluster(
    source: str | Path,
    out: str | Path,
    *,
    address: str = "auto",
    model: str | Path = DEFAULT_MODEL,
    num_frames: int | None = None,
    num_clips: int = 1,
    window: float | Literal["auto"] | None = None,
    stride: float | None = None,
    sampling: Sampling = "time",
    patches: bool = False,
    normalize: bool = False,
    batch: Batch = "auto",
    precision: Precision | None = None,
    read: ReadOptions | None = None,
    layout: Layout | None = None,
    hidden: bool = False,
    max_failures: int | None = None,
    on_report: OnReport = lambda report: None,
    say: Say = lambda text: None,
) -> TableResult:
    """Write the features of videos from all machines of a Ray cluster; the twin of `openxclip embed --cluster`.

    The rows are those of `embed`, with a column `path`, in no order. Each worker writes files of its own. The same call
    resumes, and tries again what failed. The rows of one video are held in memory until its end: `patches` of videos of
    many hours need as much memory.

    Args:
        source: a folder, `s3://bucket/prefix`, or a manifest (.parquet, .csv, .jsonl) with a column `path`.
        out: a folder for .parquet files, or `NAME.lance` for a Lance dataset; all machines share it. Either may be in
            an object store. `_failures.parquet` in it, or in `NAME.lance.parts`, names the videos that failed.
        model, num_frames, num_clips, window, stride, sampling, patches, normalize, batch, precision, read: see `embed`.
        address, layout, hidden, max_failures, on_report, say: see `index_on_cluster`.

    Raises:
        ValueError: an argument is invalid, or there is no such source, or `out` belongs to another call.
        ClusterError: there is no cluster, or it can't do the work.
        StoreError: the store can't be used, or another process writes to `out`.
        TooManyFailuresError: too many videos failed.
    """
    check_batch(batch)
    plan = ClipPlan(
        num_frames=num_frames, num_clips=num_clips, window=_UNKNOWN_S if window == "auto" else window, stride=stride,
        sampling=sampling,
    )  # fmt: skip
    table = Table(out)
    job = EmbedJob(
        model=name_for_workers(model), precision=precision, batch=batch, read=read or ReadOptions(),
        environment=ambient_options(),
        out=table.uri, plan=plan, takes_windows=window == "auto", patches=patches, normalize=normalize,
    )  # fmt: skip
    return run_table(
        job, source, table, "openxclip embed --cluster", address=address, layout=layout or Layout(), hidden=hidden,
        max_failures=max_failures, on_report=on_report, say=say,
    )  # fmt: skip
