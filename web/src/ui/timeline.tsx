// The timeline below the player: frames, a ruler, and a lane for each label with its score and its segments.

import { useEffect, useRef, useState } from "preact/hooks";
import { frameOf } from "../api";
import { clock, percent } from "../format";
import { inkOf, stored, store } from "../store";
import { length, seek, settled, time, timeline } from "../watch-state";
import type { Segment, SourceRef, Timeline as Found } from "../types";
import { Button } from "./bits";

const STEPS = [0.1, 0.25, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const MAX_ZOOM = 64;

export interface TimelineHandle {
  zoomBy: (factor: number) => void;
}

export function TimelineView({ source, texts, handle }: {
  source: SourceRef;
  texts: string[];
  handle: { current: TimelineHandle | null };
}) {
  const duration = length.value || timeline.value?.duration || 0;
  const found = timeline.value;
  const [zoom, setZoom] = useState(1);
  const [width, setWidth] = useState(800);
  const [hover, setHover] = useState<{ at: number; x: number } | null>(null);
  const section = useRef<HTMLElement>(null);
  const scroll = useRef<HTMLDivElement>(null);
  const inner = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry && setWidth(entry.contentRect.width));
    if (scroll.current) observer.observe(scroll.current);
    return () => observer.disconnect();
  }, []);
  useEffect(() => setZoom(1), [source.kind, source.id]);

  handle.current = {
    zoomBy: (factor) => setZoom((before) => Math.min(MAX_ZOOM, Math.max(1, before * factor))),
  };
  useEffect(() => {
    // the moment that is shown stays in the middle
    const box = scroll.current;
    if (box && duration) box.scrollLeft = (time.value / duration) * width * zoom - width / 2;
  }, [zoom]);

  const timeAt = (event: PointerEvent) => {
    const box = inner.current!.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * duration;
  };
  const onPointerDown = (event: PointerEvent) => {
    if ((event.target as HTMLElement).closest("button") || event.button !== 0) return;
    inner.current!.setPointerCapture(event.pointerId);
    seek(timeAt(event));
  };
  const onPointerMove = (event: PointerEvent) => {
    if (event.pointerType === "mouse") setHover({ at: timeAt(event), x: event.clientX - section.current!.getBoundingClientRect().left });
    if (inner.current!.hasPointerCapture(event.pointerId)) seek(timeAt(event));
  };

  const lanes = lanesOf(found, texts);
  return (
    <section class="timeline" aria-label="Timeline" ref={section}>
      <div class="timeline-gutter">
        <div class="gutter-head">
          <Button kind="quiet" icon="minus" label="Zoom out" disabled={zoom === 1} onClick={() => handle.current!.zoomBy(0.5)} />
          <Button kind="quiet" icon="plus" label="Zoom in" disabled={zoom === MAX_ZOOM} onClick={() => handle.current!.zoomBy(2)} />
        </div>
        {lanes.map((lane) => (
          <div class={`gutter-row ink-${inkOf(lane.label)}${lane.segments.length ? "" : " quiet-lane"}`} key={lane.label}>
            <i class="dot" />
            <span class="gutter-name" title={lane.label}>{lane.label}</span>
            <span class="edge">{percent(lane.best)}</span>
          </div>
        ))}
      </div>
      <div class="timeline-scroll" ref={scroll} tabIndex={zoom > 1 ? 0 : -1} role="group" aria-label="Lanes">
        <div
          class="timeline-inner"
          ref={inner}
          style={{ width: `${zoom * 100}%` }}
          onPointerDown={onPointerDown}
          onPointerMove={onPointerMove}
          onPointerLeave={() => setHover(null)}
        >
          <Strip source={source} duration={duration} count={Math.min(64, Math.max(5, Math.round((width * zoom) / 74)))} />
          <Ruler duration={duration} width={width * zoom} />
          {lanes.map((lane) => <Lane key={lane.label} lane={lane} found={found} duration={duration} />)}
          {hover && duration > 0 && <i class="hover" style={{ left: `${(hover.at / duration) * 100}%` }} aria-hidden="true" />}
          <Playhead duration={duration} />
        </div>
      </div>
      {hover && duration > 0 && <Hover source={source} at={hover.at} x={hover.x} room={section.current?.clientWidth ?? 0} duration={duration} />}
    </section>
  );
}

interface LaneData {
  label: string;
  best: number | null;
  threshold: number | null;
  segments: Segment[];
}

/** One lane for each label: first those that are seen, by their first segment, then the others by their best score. */
function lanesOf(found: Found | null, texts: string[]): LaneData[] {
  if (!found) return texts.map((label) => ({ label, best: null, threshold: null, segments: [] }));
  const lanes = found.labels.map(({ label, best, threshold }) => ({
    label,
    best,
    threshold,
    segments: found.segments.filter((segment) => segment.label === label),
  }));
  const first = (lane: LaneData) => lane.segments[0]?.start ?? Infinity;
  return lanes.sort((a, b) => (first(a) === first(b) ? (b.best ?? 0) - (a.best ?? 0) : first(a) - first(b)));
}

function Lane({ lane, found, duration }: { lane: LaneData; found: Found | null; duration: number }) {
  const scores = found?.scores;
  const values = scores?.labels[lane.label];
  return (
    <div class={`lane ink-${inkOf(lane.label)}${lane.segments.length ? "" : " quiet-lane"}${found ? "" : " waiting"}`}>
      <span class="lane-name"><i class="dot" />{lane.label}<span class="edge">{percent(lane.best)}</span></span>
      {scores && values && duration > 0 && (
        <svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">
          <path class="curve" d={curve(scores.start, scores.end, values, duration)} />
        </svg>
      )}
      {lane.threshold !== null && <i class="threshold" style={{ bottom: `${lane.threshold * 100}%` }} />}
      {lane.segments.map((segment) => (
        <button
          type="button"
          class="segment"
          key={segment.start}
          style={{ left: `${(segment.start / duration) * 100}%`, width: `${((segment.end - segment.start) / duration) * 100}%` }}
          aria-label={`${segment.label}, ${clock(segment.start)} to ${clock(segment.end)}, ${percent(segment.score)}`}
          onClick={() => seek(segment.start)}
        >
          <span class="edge">{percent(segment.score)}</span>
        </button>
      ))}
    </div>
  );
}

/** The score over time, from the middles of the windows; flat from the ends to the first and last. */
function curve(start: number[], end: number[], values: (number | null)[], duration: number): string {
  const points: string[] = [];
  let last = 100;
  values.forEach((value, at) => {
    if (value === null) return;
    const x = ((start[at]! + end[at]!) / 2 / duration) * 1000;
    last = 100 - value * 100;
    if (!points.length) points.push(`0,${last.toFixed(1)}`);
    points.push(`${Math.min(1000, x).toFixed(1)},${last.toFixed(1)}`);
  });
  return points.length ? `M0,100 L${points.join(" L")} L1000,${last.toFixed(1)} L1000,100 Z` : "";
}

// The player comes first: frames are asked for once it has its stream.
function Strip({ source, duration, count }: { source: SourceRef; duration: number; count: number }) {
  return (
    <div
      class="strip"
      role="slider"
      tabIndex={0}
      aria-label="Position on the timeline"
      aria-valuemin={0}
      aria-valuemax={Math.round(duration * 10) / 10}
      aria-valuenow={Math.round(time.value * 10) / 10}
      aria-valuetext={`${clock(time.value)} of ${clock(duration)}`}
      onKeyDown={(event) => {
        const moves: Record<string, number> = {
          ArrowLeft: time.value - 1, ArrowRight: time.value + 1, Home: 0, End: duration,
          PageUp: time.value - duration / 10, PageDown: time.value + duration / 10,
        };
        if (!(event.key in moves)) return;
        event.preventDefault();
        seek(moves[event.key]!);
      }}
    >
      {duration > 0 && settled.value && Array.from({ length: count }, (_, at) => (
        <img key={`${source.id}${count}${at}`} src={frameOf(source, ((at + 0.5) / count) * duration, 160)} alt=""
          loading="lazy" draggable={false} onError={(event) => event.currentTarget.classList.add("missing")} />
      ))}
    </div>
  );
}

function Ruler({ duration, width }: { duration: number; width: number }) {
  if (!duration) return <div class="ruler" />;
  const step = STEPS.find((each) => (each / duration) * width >= 64) ?? 3600;
  const digits = step < 1 ? (step === 0.25 ? 2 : 1) : 0;
  const ticks = Array.from({ length: Math.floor(duration / step) + 1 }, (_, at) => at * step);
  return (
    <div class="ruler edge" aria-hidden="true">
      {ticks.map((tick) => (
        <span key={tick} style={{ left: `${(tick / duration) * 100}%` }}>
          {(tick / duration) * width < width - 36 && clock(tick, digits)}
        </span>
      ))}
    </div>
  );
}

function Playhead({ duration }: { duration: number }) {
  return <b class="playhead" style={{ left: `${duration ? (time.value / duration) * 100 : 0}%` }} aria-hidden="true" />;
}

/** The frame below the pointer. Times are rounded, so that the browser's cache has most of them. */
function Hover({ source, at, x, room, duration }: { source: SourceRef; at: number; x: number; room: number; duration: number }) {
  const grain = Math.max(0.1, duration / 400);
  const rounded = Math.min(duration, Math.round(at / grain) * grain);
  const [shown, setShown] = useState(rounded);
  useEffect(() => {
    const timer = setTimeout(() => setShown(rounded), 70);
    return () => clearTimeout(timer);
  }, [rounded]);
  return (
    <figure class="hover-card" style={{ left: `${Math.max(0, Math.min(room - 184, x - 92))}px` }} aria-hidden="true">
      <img src={frameOf(source, shown, 320)} alt="" />
      <figcaption class="edge">{clock(at)}</figcaption>
    </figure>
  );
}

/** The moments that were found, as pictures. */
export function Moments({ source, found }: { source: SourceRef; found: Found }) {
  const [all, setAll] = useState(false);
  const [bySize, setBySize] = useState(() => stored("moments-by-score", false));
  if (!found.segments.length) {
    const best = [...found.labels].sort((a, b) => (b.best ?? 0) - (a.best ?? 0))[0];
    return (
      <p class="muted nothing">
        No label is seen for sure.{" "}
        {best && best.best !== null && (
          <>The closest is “{best.label}” with {percent(best.best)}
            {best.best_time !== null && <>, at <button type="button" class="link" onClick={() => seek(best.best_time!)}>{clock(best.best_time)}</button></>}
            ; a segment begins at {percent(best.threshold)}.</>
        )}
      </p>
    );
  }
  const sorted = bySize ? [...found.segments].sort((a, b) => (b.score ?? 0) - (a.score ?? 0)) : found.segments;
  const shown = all ? sorted : sorted.slice(0, 12);
  return (
    <section class="moments" aria-label="Moments">
      <div class="section-head">
        <h2>{found.segments.length === 1 ? "1 moment" : `${found.segments.length} moments`}</h2>
        <button type="button" class="link" onClick={() => { setBySize(!bySize); store("moments-by-score", !bySize); }}>
          {bySize ? "Order by time" : "Order by score"}
        </button>
      </div>
      <div class="moment-grid">
        {shown.map((segment) => (
          <button type="button" class={`moment ink-${inkOf(segment.label)}`} key={`${segment.label}${segment.start}`}
            onClick={() => seek(segment.start)}>
            <img src={frameOf(source, segment.peak ?? segment.start, 320)} alt="" loading="lazy" />
            <span class="moment-label">{segment.label}</span>
            <span class="edge muted">{clock(segment.start)} – {clock(segment.end)} <b>{percent(segment.score)}</b></span>
          </button>
        ))}
      </div>
      {sorted.length > shown.length && <Button onClick={() => setAll(true)}>Show all {sorted.length}</Button>}
    </section>
  );
}
