"""`openxclip index` in bulk: with a cluster, in parts, or from a manifest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from openxclip.cli.cluster_options import Display, commit_summary, end, end_commit, summary
from openxclip.cli.help import usage_errors
from openxclip.cli.index_estimate import print_estimate
from openxclip.cli.options import note_of_model, read_options, refuse_given
from openxclip.cli.terminal import is_set
from openxclip.common.counting import counted

if TYPE_CHECKING:
    from openxclip.cluster import IndexSettings

NO_PATCHES = (
    "the new index stores no patches, because it may become large: hits can be reranked by reading their videos again "
    "(search --rerank); --patches stores them."
)


def is_source(videos: tuple[str, ...]) -> bool:
    """Return whether the only argument is a manifest or a place in an object store, not video files."""
    if len(videos) != 1 or videos[0] == "-":
        return False
    name = videos[0]
    if name.partition("://")[0] in ("s3", "gs", "az"):
        return True
    if not name.lower().rstrip("/").endswith((".parquet", ".csv", ".jsonl", ".ndjson")):
        return False
    from openxclip.search.bulk.sources import is_manifest

    try:
        return is_manifest(name)
    except ValueError:  # it can't be read, which is said where exported windows are added
        return False


class BulkIndexing:
    """Fills an index with a cluster, or in parts."""

    def __init__(self, videos: tuple[str, ...], to: str, options: dict[str, Any]) -> None:
        if len(videos) > 1:
            raise click.UsageError("name one folder, prefix or manifest: a manifest can list any videos.")
        self._source, self._to = (videos[0] if videos else None), to
        decode = options.pop("decode", None)
        self._read = read_options(options)
        self._options = {**options, "decode": decode}

    def run(
        self,
        *,
        cluster: str | None,
        part: tuple[int, int] | None,
        commit: bool,
        retry_failed: bool,
        max_failures: int | None,
        cores: int | None,
        readers: int | None,
        form: str,
    ) -> None:
        """Do what the options say, and end the command."""
        if sum((cluster is not None, part is not None, commit)) > 1:
            raise click.UsageError("give one of --cluster, --part and --commit.")
        if self._source is None and not retry_failed and not commit:
            raise click.UsageError("no videos are named.")
        if commit and retry_failed:
            raise click.UsageError("--retry-failed goes with --cluster or --part, before --commit.")
        if cluster is not None:
            refuse_given(("device",), "can't be combined with --cluster, which uses the GPUs of the cluster.")
        from openxclip.cluster import IndexSettings, Layout, commit_parts, index_here, index_on_cluster, index_part
        from openxclip.cluster.placing import CORES_PER_WORKER

        display = Display("indexing", form)
        common: dict[str, Any] = {"hidden": is_set("hidden"), "say": display.say}
        with usage_errors():
            common["settings"] = settings = IndexSettings(read=self._read, **self._options)
            if commit:
                result = commit_parts(self._source, self._to, **common)
                click.echo(commit_summary(result))
                end_commit(result, display)
                return
            self._mention_patches(settings, display)
            common |= {"retry_failed": retry_failed, "max_failures": max_failures}
            with display.shown():
                common["on_report"] = display.report
                try:
                    if cluster is not None:
                        layout = Layout(cores or CORES_PER_WORKER, readers)
                        result = index_on_cluster(self._source, self._to, address=cluster, layout=layout, **common)
                    elif part is not None:
                        result = index_part(self._source, self._to, part, **common)
                    else:
                        result = index_here(self._source, self._to, **common)
                except KeyboardInterrupt:
                    display.say("stopped: what is done is kept. Run the same command to resume.")
                    raise
        click.echo(summary(result))
        if form == "text":
            note_of_model(str(self._options["model"] or ""))
        if part is not None and result.waiting:
            wait = "waits" if result.waiting == 1 else "wait"
            videos = counted(result.waiting, "video")
            display.notes([f"{videos} of this part {wait} for a commit: run --commit after all parts."])
        end(result, display)

    def estimate(self, cluster: str | None) -> None:
        """Probe the source and print what indexing it takes."""
        if self._source is None:
            raise click.UsageError("no videos are named.")
        from openxclip.cluster import IndexSettings

        with usage_errors():
            settings = IndexSettings(read=self._read, **self._options)
            is_here = cluster is None and "://" not in self._to and not is_source((self._source,))
            if is_here and settings.patches is None and settings.open(self._to).info is None:
                settings = replace(settings, patches=True)  # the default of a new index that is filled here
            print_estimate(self._source, self._to, settings, cluster)

    def _mention_patches(self, settings: IndexSettings, display: Display) -> None:
        if settings.patches is None and settings.open(self._to).info is None and not is_set("quiet"):
            display.say(f"note: {NO_PATCHES}")
