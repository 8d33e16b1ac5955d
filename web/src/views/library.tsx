// Library: the videos below the roots, the index, and its jobs.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, asApiError, get, isAbort, post } from "../api";
import { bytes, count } from "../format";
import { isOpen, jobs, refreshJobs, start } from "../jobs";
import { useKeys } from "../keys";
import { go, hrefOf, say } from "../store";
import type { IndexInfo, Video, VideoPage } from "../types";
import { Button, Empty, Failure, Progress } from "../ui/bits";
import { JobRow } from "../ui/job";
import { VideoTile } from "../ui/tile";
import { open, opened, rename, send, time, uploads } from "../watch-state";

const PAGE = 48;
const index = signal<IndexInfo | "none" | null>(null);

async function refreshIndex(): Promise<void> {
  try {
    index.value = await get<IndexInfo>("/v1/index");
  } catch (error) {
    if (asApiError(error).code !== "no_index") throw error;
    index.value = "none";
  }
}

/** Adds paths to the index; the page follows the job. */
async function addToIndex(paths: string[]): Promise<void> {
  try {
    await start("/v1/index", { paths }, () => void refreshIndex().catch(() => {}));
  } catch (error) {
    say(asApiError(error).message);
  }
}

export function KeepButton({ id }: { id: string }) {
  const [busy, setBusy] = useState(false);
  const keep = async () => {
    setBusy(true);
    try {
      const kept = await post<Video>(`/v1/uploads/${encodeURIComponent(id)}/keep`);
      uploads.value = uploads.value.filter((each) => each.id !== id);
      say("The video is in the collection now.", { label: "Add to the index", run: () => void addToIndex([kept.id]) });
      if (opened.value?.ref.id === id) {
        rename({ kind: "video", id: kept.id }, kept.name);
        go("watch", { video: kept.id, t: time.value.toFixed(2) });
      }
    } catch (error) {
      say(asApiError(error).message);
    } finally {
      setBusy(false);
    }
  };
  return <Button kind="quiet" icon="keep" disabled={busy} onClick={() => void keep()}>Add to collection</Button>;
}

export function Library() {
  const [page, setPage] = useState<VideoPage | null>(null);
  const [words, setWords] = useState("");
  const [error, setError] = useState<ApiError | null>(null);
  const [attempt, setAttempt] = useState(0);
  const field = useRef<HTMLInputElement>(null);
  const file = useRef<HTMLInputElement>(null);
  useKeys({ "/": () => field.current?.focus(), u: () => file.current?.click() });

  const fetchPage = (offset: number, signal?: AbortSignal) =>
    get<VideoPage>(`/v1/videos?limit=${PAGE}&offset=${offset}${words ? `&q=${encodeURIComponent(words)}` : ""}`, signal);
  useEffect(() => {
    const controller = new AbortController();
    const timer = setTimeout(() => {
      fetchPage(0, controller.signal)
        .then((answer) => { setPage(answer); setError(null); })
        .catch((reason: unknown) => !isAbort(reason) && setError(asApiError(reason)));
    }, words ? 200 : 0);
    return () => { clearTimeout(timer); controller.abort(); };
  }, [words, attempt]);
  useEffect(() => {
    void refreshIndex().catch(() => {});
    void refreshJobs().catch(() => {});
  }, []);

  const more = async () => {
    if (page?.next == null) return;
    try {
      const next = await fetchPage(page.next);
      setPage({ ...next, videos: [...page.videos, ...next.videos] });
    } catch (reason) {
      setError(asApiError(reason));
    }
  };
  const roots = page?.roots ?? [];
  const empty = page !== null && page.total === 0 && !words;
  return (
    <div class="library">
      <input ref={file} class="visually-hidden" type="file" accept="video/*,.mkv,.avi,.ts,.mts,.wmv,.flv" tabIndex={-1}
        aria-label="Choose a video file" onChange={(event) => {
          const chosen = event.currentTarget.files?.[0];
          if (chosen) { go("watch"); void send(chosen); }
        }} />
      <header class="view-head">
        <h1>Library</h1>
        <span class="grow" />
        <Button icon="upload" onClick={() => file.current?.click()}>Upload a video</Button>
      </header>
      <div class="library-grid">
        <section aria-label="Videos" class="library-videos">
          {!empty && (
            <div class="filter">
              <input ref={field} type="search" placeholder="Filter by name" aria-label="Filter by name" value={words}
                onInput={(event) => setWords(event.currentTarget.value)}
                onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()} />
              {page && <span class="muted" role="status">{count(page.total, "video")}</span>}
            </div>
          )}
          {error && <Failure error={error} onRetry={() => setAttempt(attempt + 1)} />}
          {!page && !error && <Progress share={null} text="Reading the collection" />}
          {empty && (
            <Empty title="The collection is empty" actions={<Button kind="primary" icon="upload" onClick={() => file.current?.click()}>Upload a video</Button>}>
              Start the server with <code>--root FOLDER</code> to see your videos here, or upload one and add it to the collection.
            </Empty>
          )}
          {page && page.total === 0 && words && <p class="muted nothing">No video’s name has “{words}”.</p>}
          {page && page.videos.length > 0 && (
            <div class="tiles">
              {page.videos.map((video) => (
                <VideoTile key={video.id} source={{ kind: "video", id: video.id }} name={video.name} size={video.size} duration={video.duration}
                  detail={`${video.root} · ${bytes(video.size)}`} onOpen={() => go("watch", { video: video.id })} />
              ))}
            </div>
          )}
          {page?.next != null && <div class="row centre"><Button onClick={() => void more()}>Show more</Button></div>}
        </section>
        <aside class="library-side">
          <IndexCard roots={roots} />
          {uploads.value.length > 0 && (
            <section class="panel">
              <h2>Uploads of this visit</h2>
              <p class="muted small">They are deleted when the visit ends.</p>
              <ul class="plain-list">
                {uploads.value.map((each) => (
                  <li key={each.id}>
                    <button type="button" class="link" onClick={() => { open({ kind: "upload", id: each.id }, each.name); location.hash = hrefOf("watch"); }}>{each.name}</button>
                    <KeepButton id={each.id} />
                  </li>
                ))}
              </ul>
            </section>
          )}
        </aside>
      </div>
    </div>
  );
}

function IndexCard({ roots }: { roots: string[] }) {
  const known = index.value;
  const open = jobs.value.filter((job) => job.kind === "index" && isOpen(job));
  const ended = jobs.value.filter((job) => job.kind === "index" && !isOpen(job)).slice(0, 3);
  return (
    <section class="panel" aria-label="Index">
      <h2>Index</h2>
      {known === null && <Progress share={null} text="Reading the index" />}
      {known === "none" && <p class="muted">Nothing is indexed yet. Search and Teach need an index.</p>}
      {known !== null && known !== "none" && (
        <dl class="facts">
          <div><dt>Videos</dt><dd>{known.videos.toLocaleString("en")}</dd></div>
          <div><dt>Windows</dt><dd>{known.windows.toLocaleString("en")}</dd></div>
          {known.window ? <div><dt>Window</dt><dd>{known.window} s</dd></div> : null}
          {known.model && <div class="wide-fact"><dt>Model</dt><dd>{known.model}</dd></div>}
        </dl>
      )}
      {open.length > 0 && <ul class="jobs">{open.map((job) => <JobRow job={job} key={job.id} />)}</ul>}
      {roots.length > 0 && open.length === 0 && (
        <>
          <p class="small muted">Index a folder. What is indexed already is skipped.</p>
          <div class="roots">
            {roots.map((root) => <Button key={root} icon="folder" onClick={() => void addToIndex([root])}>{root}</Button>)}
          </div>
        </>
      )}
      {ended.length > 0 && <ul class="jobs">{ended.map((job) => <JobRow job={job} key={job.id} />)}</ul>}
    </section>
  );
}
