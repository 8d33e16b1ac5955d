"""`classify_on_cluster`: classify many videos on many machines."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openxclip.checkpoints.fingerprints import fingerprint
from openxclip.cluster.jobs import Job, OnVideo, Work, name_for_workers
from openxclip.cluster.parts_of_table import Table
from openxclip.cluster.placing import Layout
from openxclip.cluster.reporting import OnReport
from openxclip.cluster.table_work import TableWork
from openxclip.cluster.tables import TableResult, run_table
from openxclip.errors import VideoError
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline.batching import Batch, check_batch
from openxclip.recognition.classification import Classifier, check_labels
from openxclip.search.bulk.objects import ambient_options
from openxclip.video import ClipPlan, ReadOptions, VideoSource
from openxclip.video.sampling import Sampling

if TYPE_CHECKING:
    from openxclip.cluster.session import Say
    from openxclip.engine import Precision
    from openxclip.pipeline import VideoPipeline


@dataclass(frozen=True, kw_only=True)
class ClassifyJob(Job):
    """Classifies videos; the attributes are those of `classify`."""

    out: str
    labels: tuple[str, ...]
    plan: ClipPlan
    top_k: int
    template: str
    min_score: float | None

    def begin(self, pipeline: VideoPipeline, read: ReadOptions, on_video: OnVideo) -> Work:
        """Begin to work in a worker's process."""
        return _ClassifyWork(self, pipeline, read, on_video)


class _ClassifyWork(TableWork):
    def __init__(self, job: ClassifyJob, pipeline: VideoPipeline, read: ReadOptions, on_video: OnVideo) -> None:
        import json

        self._job, self._read, self._plan = job, read, pipeline.complete_plan(job.plan)
        self._classifier = Classifier(pipeline, job.labels, template=job.template, min_score=job.min_score)
        options = {
            "model": pipeline.name,
            "weights": fingerprint(pipeline.model),
            "labels": list(job.labels),
            "template": job.template,
            "min_score": job.min_score,
            "top_k": job.top_k,
            "plan": asdict(self._plan),
            "read": asdict(job.read),
        }
        super().__init__(job.out, options, _schema(json.dumps(options, default=str)), pipeline, on_video)

    def encode(
        self, sources: Generator[VideoSource, None, None]
    ) -> Generator[tuple[list[dict[str, Any]], VideoError | None, float], None, None]:
        results = self._classifier(
            sources, self._plan, top_k=self._job.top_k, read=self._read, batch=self._job.batch
        )  # fmt: skip
        for result in results:
            row = result.to_dict()
            yield [] if result.error is not None else [row], result.error, 0.0

    def to_table(self, rows: Sequence[dict[str, Any]]) -> Any:
        import pyarrow as pa

        return pa.Table.from_pylist(list(rows), schema=self.schema)


def _schema(metadata: str) -> Any:
    import pyarrow as pa

    label = pa.struct([("label", pa.string()), ("probability", pa.float64()), ("score", pa.float64())])
    fields = [
        ("path", pa.string()),
        ("outcome", pa.string()),
        ("labels", pa.list_(label)),
        ("none_of_these", pa.float64()),
        ("times", pa.list_(pa.list_(pa.float64()))),
    ]
    return pa.schema(fields, metadata={"openxclip": metadata})


def classify_on_cluster(
    source: str | Path,
    out: str | Path,
    labels: Sequence[str],
    *,
    address: str = "auto",
    model: str | Path = DEFAULT_MODEL,
    num_frames: int | None = None,
    num_clips: int = 1,
    start: float | None = None,
    end: float | None = None,
    sampling: Sampling = "time",
    top_k: int = 5,
    template: str = "{}",
    min_score: float | None = None,
    batch: Batch = "auto",
    precision: Precision | None = None,
    read: ReadOptions | None = None,
    layout: Layout | None = None,
    hidden: bool = False,
    max_failures: int | None = None,
    on_report: OnReport = lambda report: None,
    say: Say = lambda text: None,
) -> TableResult:
    """Classify videos on all machines of a Ray cluster; the twin of `openxclip classify --cluster`.

    The columns are the fields of a line of `openxclip classify --format jsonl`. The same call resumes, and tries again
    what failed.

    Args:
        source, out, address, layout, hidden, max_failures, on_report, say: see `embed_on_cluster`.
        labels, model, num_frames, num_clips, start, end, sampling: see `classify`.
        top_k, template, min_score, batch, precision, read: see `classify`.

    Raises:
        ValueError: an argument is invalid, or there is no such source, or `out` belongs to another call.
        Exception: see `embed_on_cluster`.
    """
    labels = check_labels(labels)
    plan = ClipPlan(num_frames=num_frames, num_clips=num_clips, start=start, end=end, sampling=sampling)
    check_batch(batch)
    table = Table(out)
    job = ClassifyJob(
        model=name_for_workers(model), precision=precision, batch=batch, read=read or ReadOptions(),
        environment=ambient_options(),
        out=table.uri, labels=tuple(labels), plan=plan, top_k=top_k, template=template, min_score=min_score,
    )  # fmt: skip
    return run_table(
        job, source, table, "openxclip classify --cluster", address=address, layout=layout or Layout(), hidden=hidden,
        max_failures=max_failures, on_report=on_report, say=say,
    )  # fmt: skip
