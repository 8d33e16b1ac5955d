"""Counters of the server for Prometheus."""

from __future__ import annotations

from openxclip.errors import needs_package

with needs_package("openxclip serve", "prometheus_client", "serve"):
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """Counters in a registry of their own, so that several servers in one process don't share them.

    Attributes:
        requests: requests by `method`, `route` (the pattern, not the address) and `status`; filled by the app.
        request_seconds: time of a request by `route`; filled by the app.
        queue, running: requests that wait, and that run, by `lane`.
        wait_seconds: how long tasks waited, by `lane`.
        model_seconds: how long tasks ran in the process, by `task`.
        refused: tasks that were refused because the queue was full, by `lane`.
        timeouts, cancelled: tasks that took too long, and whose clients left, by `lane`.
        videos: videos that were decoded.
        crashes: decoders that died.
        restarts: processes that ended without being asked to, by `process` ("model", "media" or "job").
        loads, unloads: how often the model was loaded, and ended because it was idle.
        rss: memory in bytes by `process`.
        jobs: jobs that ended, by `kind` and `state`.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"openxclip_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"openxclip_{name}", text, labels, registry=self.registry, buckets=_SECONDS)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"openxclip_{name}", text, labels, registry=self.registry)

        self.requests = counter("requests_total", "Answered requests.", "method", "route", "status")
        self.request_seconds = histogram("request_seconds", "Time from the request to its answer.", "route")
        self.queue = gauge("queue", "Tasks that wait.", "lane")
        self.running = gauge("running", "Tasks that run.", "lane")
        self.wait_seconds = histogram("wait_seconds", "Time that tasks waited.", "lane")
        self.model_seconds = histogram("model_seconds", "Time that tasks ran in their process.", "task")
        self.refused = counter("refused_total", "Tasks refused because the queue was full.", "lane")
        self.timeouts = counter("timeouts_total", "Tasks that took too long.", "lane")
        self.cancelled = counter("cancelled_total", "Tasks whose clients left.", "lane")
        self.videos = counter("videos_decoded_total", "Videos that were decoded.")
        self.crashes = counter("decoder_crashes_total", "Decoding processes that died.")
        self.restarts = counter("process_deaths_total", "Processes that ended without being asked to.", "process")
        self.loads = counter("model_loads_total", "How often the model was loaded.")
        self.unloads = counter("model_unloads_total", "How often the idle model's process was ended.")
        self.rss = gauge("process_resident_bytes", "Memory of a process and its decoders.", "process")
        self.jobs = counter("jobs_total", "Jobs that ended.", "kind", "state")

    def text(self) -> bytes:
        """Return all counters in Prometheus's text format (`CONTENT_TYPE`)."""
        return generate_latest(self.registry)
