// Watch: a video, labels, how well each fits, and when it is seen.

import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api";
import { count, percent, remaining } from "../format";
import { useKeys } from "../keys";
import { go, hrefOf, inkOf, labels, route } from "../store";
import type { Classification, Timeline, Video } from "../types";
import { Button, Failure, Lanes, Progress } from "../ui/bits";
import { Icon } from "../ui/icons";
import { LabelField } from "../ui/labels";
import { Player, toggle } from "../ui/player";
import { VideoTile } from "../ui/tile";
import { Moments, type TimelineHandle, TimelineView } from "../ui/timeline";
import {
  bars, close, currentPlayer, failed, head, isRunning, isStale, look, notes, open, openError, opened, run, searched, seek, send, stop,
  stopSending, time, timeline, uploading, uploads,
} from "../watch-state";
import { KeepButton } from "./library";

export function Watch() {
  const { query } = route.value;
  const field = useRef<HTMLInputElement>(null);
  const file = useRef<HTMLInputElement>(null);
  const handle = useRef<TimelineHandle | null>(null);

  useEffect(() => {
    const id = query.get("video");
    if (id) open({ kind: "video", id }, id.split("/").pop()!, Number(query.get("t")) || 0);
  }, [query.toString()]);

  const jump = (direction: 1 | -1) => {
    const starts = [...new Set((timeline.value?.segments ?? []).map((segment) => segment.start))].sort((a, b) => a - b);
    const next = direction === 1 ? starts.find((start) => start > time.value + 0.05) : starts.reverse().find((start) => start < time.value - 0.05);
    if (next !== undefined) seek(next);
  };
  useKeys({
    "/": () => field.current?.focus(),
    u: () => file.current?.click(),
    " ": () => toggle(currentPlayer()),
    ArrowLeft: () => seek(time.value - 1),
    ArrowRight: () => seek(time.value + 1),
    ",": () => seek(time.value - 1 / 25),
    ".": () => seek(time.value + 1 / 25),
    "[": () => jump(-1),
    "]": () => jump(1),
    "+": () => handle.current?.zoomBy(2),
    "=": () => handle.current?.zoomBy(2),
    "-": () => handle.current?.zoomBy(0.5),
    m: () => {
      const player = currentPlayer();
      if (player) player.muted = !player.muted;
    },
  });

  const picker = (
    <input ref={file} class="visually-hidden" type="file" accept="video/*,.mkv,.avi,.ts,.mts,.wmv,.flv" tabIndex={-1}
      aria-label="Choose a video file" onChange={(event) => {
        const chosen = event.currentTarget.files?.[0];
        if (chosen) void send(chosen);
        event.currentTarget.value = "";
      }} />
  );
  const video = opened.value;
  if (!video) return <>{picker}<Welcome onChoose={() => file.current?.click()} field={field} /></>;
  return (
    <div class={`watch${bars.value ? " found" : ""}`}>
      {picker}
      <header class="watch-head">
        <h1 title={video.name}>{video.name}</h1>
        {video.ref.kind === "upload" && (
          <span class="muted small">Deleted when this visit ends {!failed.value && <KeepButton id={video.ref.id} />}</span>
        )}
        <span class="grow" />
        {!failed.value && (
          <a class="button quiet find-like" href={hrefOf("search", { like: video.ref.id, kind: video.ref.kind === "upload" ? "upload" : null, name: video.name })}>
            <Icon name="more" size={18} /><span>Find more like it</span>
          </a>
        )}
        <Button kind="quiet" icon="upload" class="upload-other" onClick={() => file.current?.click()}><span>Another video</span></Button>
        <Button kind="quiet" icon="close" label="Close the video" onClick={() => { close(); go("watch"); }} />
      </header>
      <Sending />
      <div class="watch-top">
        <Player source={video.ref} name={video.name} key={`${video.ref.kind}${video.ref.id}`} />
        <div class="panel look">
          <LabelField input={field} onEnter={() => void look()} />
          <Look />
          <Bars />
        </div>
      </div>
      {!failed.value && <TimelineView source={video.ref} texts={searched.value.length ? searched.value : labels.value.map((label) => label.text)} handle={handle} />}
      {timeline.value?.error && <p class="failure-line"><Icon name="warn" size={16} /> {timeline.value.error}</p>}
      {timeline.value && <Moments source={video.ref} found={timeline.value} />}
      {[...new Set([...notes.value, ...(timeline.value?.notes ?? [])])].map((note) => <p class="muted small note" key={note}>{note.charAt(0).toUpperCase() + note.slice(1)}</p>)}
    </div>
  );
}

/** The button that starts, and the progress of what it started. */
function Look() {
  const { phase, waiting, done, duration, began, error } = run.value;
  if (isRunning.value) {
    const share = phase === "moments" && duration ? done / duration : null;
    const elapsed = (Date.now() - began) / 1000;
    const left = share && share > 0.02 && elapsed > 2 ? remaining((elapsed / share) * (1 - share)) : undefined;
    const text = waiting !== null ? `The server is busy. Trying again in ${Math.ceil(waiting)} s`
      : phase === "labels" ? "Comparing labels" : "Looking through the video";
    return <Progress share={share} text={text} detail={left} onStop={stop} />;
  }
  return (
    <>
      {error && !(failed.value && error.code.startsWith("video_")) && <Failure error={error} onRetry={() => void look()} onClose={() => (run.value = { ...run.value, error: null })} />}
      {(phase === "idle" || isStale.value) && (
        <Button kind="primary" disabled={!labels.value.length || failed.value} onClick={() => void look()} class="wide">
          {isStale.value ? "Look again" : "Look"}
        </Button>
      )}
      {isStale.value && <p class="muted small">The labels changed since the results below.</p>}
    </>
  );
}

const SHORT = 4; // windows; a longer video has too many moments for one answer

/** How well each label fits: a short video as a whole, a long one in the best window of each label. */
function Bars() {
  const windows = timeline.value;
  if (!bars.value) return null;
  return windows && windows.windows > SHORT && !head.value ? <BestWindows found={windows} /> : <Whole found={bars.value} />;
}

function BestWindows({ found }: { found: Timeline }) {
  const seen = new Set(found.segments.map((segment) => segment.label)).size;
  const sorted = [...found.labels].sort((a, b) => (b.best ?? 0) - (a.best ?? 0));
  return (
    <div class={`bars${isStale.value ? " stale" : ""}`}>
      <p class="outcome" role="status">
        <span class="muted small">Score of each label’s best window</span>
        <strong>{seen === 0 ? "No label is seen" : `${seen} of ${count(found.labels.length, "label")} seen`}</strong>
      </p>
      <BarList rows={sorted.map(({ label, best }) => ({ label, share: best, note: null }))} />
    </div>
  );
}

function BarList({ rows }: { rows: { label: string; share: number | null; note: string | null }[] }) {
  const [all, setAll] = useState(false);
  return (
    <>
      <ol>
        {(all ? rows : rows.slice(0, 6)).map(({ label, share, note }) => (
          <li class={`bar ink-${inkOf(label)}`} key={label}>
            <span class="bar-label">{label}</span>
            <span class="edge bar-number" title={note ?? undefined}>{percent(share)}</span>
            <span class="track"><i style={{ width: `${(share ?? 0) * 100}%` }} /></span>
          </li>
        ))}
      </ol>
      {rows.length > 6 && (
        <button type="button" class="link" onClick={() => setAll(!all)}>{all ? "Show fewer" : `Show all ${rows.length}`}</button>
      )}
    </>
  );
}

function Whole({ found }: { found: Classification }) {
  const none = found.outcome === "none of these";
  const best = found.labels[0]!;
  return (
    <div class={`bars${isStale.value ? " stale" : ""}${none ? " unsure" : ""}`}>
      <p class="outcome" role="status">
        <span class="muted small">The whole video{head.value ? ", with corrections" : ""}</span>
        <strong>{none ? "None of these" : found.outcome}</strong>
        {none && (
          <span class="muted small">
            “{best.label}” is the closest, with a score of {percent(best.score)}. The bars only compare the labels with each other.
          </span>
        )}
      </p>
      <BarList rows={found.labels.map(({ label, probability, score }) => ({
        label, share: probability, note: score === null ? null : `score ${score.toFixed(3)}`,
      }))} />
    </div>
  );
}

function Sending() {
  const sent = uploading.value;
  return (
    <>
      {sent && <Progress share={sent.share < 1 ? sent.share : null} text={sent.share < 1 ? `Uploading ${sent.name}` : `Checking ${sent.name}`}
        detail={percent(sent.share)} onStop={stopSending} now />}
      {openError.value && <Failure error={openError.value} onClose={() => (openError.value = null)} />}
    </>
  );
}

function Welcome({ onChoose, field }: { onChoose: () => void; field: { current: HTMLInputElement | null } }) {
  const [videos, setVideos] = useState<Video[] | null>(null);
  useEffect(() => {
    const controller = new AbortController();
    get<{ videos: Video[] }>("/v1/videos?limit=8", controller.signal)
      .then((answer) => setVideos(answer.videos))
      .catch(() => setVideos([])); // the library says what is wrong
    return () => controller.abort();
  }, []);
  return (
    <div class="welcome">
      <div class="welcome-words">
        <h1>Say what to look for. See when it happens.</h1>
        <p class="lead">openxclip compares a video with your words, window by window, and marks each moment on its timeline.</p>
      </div>
      <div class="drop">
        <Lanes />
        <div class="drop-words">
          <p class="drop-title">Open a video</p>
          <Button kind="primary" icon="upload" onClick={onChoose}>Choose a video</Button>
          <p class="muted small"><span class="by-drop">Or drop it anywhere on this page. </span>It stays on this server and is deleted when your visit ends.</p>
        </div>
      </div>
      <Sending />
      <div class="panel welcome-labels">
        <LabelField input={field} onEnter={onChoose} />
      </div>
      {uploads.value.length > 0 && (
        <section>
          <div class="section-head"><h2>Uploads of this visit</h2></div>
          <div class="tiles small-tiles">
            {uploads.value.map((each) => (
              <VideoTile key={each.id} source={{ kind: "upload", id: each.id }} name={each.name} size={each.size} duration={each.duration}
                onOpen={() => open({ kind: "upload", id: each.id }, each.name)} />
            ))}
          </div>
        </section>
      )}
      {videos !== null && videos.length > 0 && (
        <section>
          <div class="section-head"><h2>From the library</h2><a class="link" href="#/library">See all</a></div>
          <div class="tiles small-tiles one-row">
            {videos.map((each) => (
              <VideoTile key={each.id} source={{ kind: "video", id: each.id }} name={each.name} size={each.size} duration={each.duration}
                onOpen={() => go("watch", { video: each.id })} />
            ))}
          </div>
        </section>
      )}
    </div>
  );
}

