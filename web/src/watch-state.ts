// The video that is watched and what was found in it. It outlives a change of view.

import { computed, effect, signal } from "@preact/signals";
import { ApiError, addressOf, asApiError, fieldOf, get, isAbort, post, stream, upload, whileBusy } from "./api";
import { labels, refreshReady } from "./store";
import type { Classification, SourceRef, Timeline, Upload } from "./types";

export interface Opened {
  ref: SourceRef;
  name: string;
}

export interface Run {
  phase: "idle" | "labels" | "moments" | "done";
  waiting: number | null; // seconds until the next try, when the server's queue is full
  done: number;
  duration: number;
  began: number;
  error: ApiError | null;
}

const IDLE: Run = { phase: "idle", waiting: null, done: 0, duration: 0, began: 0, error: null };

export const opened = signal<Opened | null>(null);
export const uploads = signal<Upload[]>([]);
export const uploading = signal<{ name: string; share: number } | null>(null);
export const openError = signal<ApiError | null>(null);
export const run = signal<Run>(IDLE);
export const bars = signal<Classification | null>(null);
export const timeline = signal<Timeline | null>(null);
export const searched = signal<string[]>([]); // the labels of the results that are shown
export const head = signal<string | null>(null); // name of the corrections that are used
export const failed = signal(false); // whether the server can't read the video
export const settled = signal(false); // whether the player has its stream, or can't have it
export const notes = signal<string[]>([]);
export const time = signal(0);
export const length = signal(0);

export const isRunning = computed(() => run.value.phase === "labels" || run.value.phase === "moments");
export const isStale = computed(
  () => bars.value !== null && searched.value.join("\n") !== labels.value.map((label) => label.text).join("\n"),
);

let player: HTMLVideoElement | null = null;
let pendingTime: number | null = null;
let running: AbortController | null = null;
let sending: AbortController | null = null;

export function attach(element: HTMLVideoElement | null): void {
  player = element;
}

export function currentPlayer(): HTMLVideoElement | null {
  return player;
}

/** Moves the player, now or as soon as it knows the video. */
export function seek(to: number): void {
  const target = Math.max(0, length.value ? Math.min(to, length.value - 0.001) : to);
  time.value = target;
  if (player && player.readyState >= 1) player.currentTime = target;
  else pendingTime = target;
}

export function takePendingTime(): number | null {
  const target = pendingTime;
  pendingTime = null;
  return target;
}

/** Opens a video of the collection or an upload, and forgets what was found in the one before. */
export function open(ref: SourceRef, name: string, at = 0): void {
  const same = opened.value?.ref.kind === ref.kind && opened.value.ref.id === ref.id;
  if (!same) {
    stop();
    opened.value = { ref, name };
    bars.value = timeline.value = null;
    searched.value = [];
    run.value = IDLE;
    openError.value = null;
    length.value = 0;
    failed.value = false;
  }
  seek(at);
  if (!same && labels.value.length) void look();
}

/** Goes on with the same video under another name: an upload that was added to the collection. */
export function rename(ref: SourceRef, name: string): void {
  opened.value = { ref, name };
  pendingTime = time.value;
}

export function close(): void {
  stop();
  opened.value = null;
  run.value = IDLE;
}

/** Uploads a file and opens it. */
export async function send(file: File): Promise<void> {
  sending?.abort();
  const controller = (sending = new AbortController());
  openError.value = null;
  uploading.value = { name: file.name, share: 0 };
  try {
    const path = `/v1/uploads?name=${encodeURIComponent(file.name)}`;
    const made = await upload<Upload>(
      path, file, (share) => (uploading.value = { name: file.name, share }), controller.signal);
    uploads.value = [...uploads.value, made];
    open({ kind: "upload", id: made.id }, made.name);
  } catch (error) {
    if (!isAbort(error)) openError.value = asApiError(error);
  } finally {
    if (sending === controller) {
      uploading.value = null;
      sending = null;
    }
  }
}

export function stopSending(): void {
  sending?.abort();
}

export function stop(): void {
  running?.abort();
}

/** Classifies the video, then asks when each label is seen. */
export async function look(): Promise<void> {
  const video = opened.value;
  const texts = labels.value.map((label) => label.text);
  if (!video || !texts.length) return;
  stop();
  const controller = (running = new AbortController());
  const { signal } = controller;
  const current = () => running === controller;
  const update = (change: Partial<Run>) => current() && (run.value = { ...run.value, ...change });
  const onWait = (seconds: number) => update({ waiting: seconds });
  run.value = { ...IDLE, phase: "labels", began: Date.now() };
  const fields = { ...fieldOf(video.ref), labels: texts };
  void refreshReady();
  try {
    const options = { top: texts.length, ...(head.value ? { head: head.value } : {}) };
    const answer = await whileBusy(
      () => post<{ result: Classification; notes?: string[] }>("/v1/classify", { ...fields, ...options }, "POST", signal),
      { signal, onWait });
    if (!current()) return;
    bars.value = answer.result;
    notes.value = answer.notes ?? [];
    timeline.value = null;
    searched.value = texts;
    update({ phase: "moments", waiting: null, began: Date.now() });
    const found = await whileBusy(() => moments(fields, signal, update), { signal, onWait });
    if (!current()) return;
    timeline.value = found;
    update({ phase: "done", waiting: null });
  } catch (error) {
    if (!current()) return;
    const before = bars.value && searched.value === texts ? "done" : "idle";
    update({ phase: isAbort(error) || signal.aborted ? before : "idle", waiting: null });
    if (!isAbort(error) && !signal.aborted) update({ error: asApiError(error) });
  }
}

async function moments(fields: object, signal: AbortSignal, update: (change: Partial<Run>) => void): Promise<Timeline> {
  for await (const { event, data } of stream("/v1/timeline", { ...fields, scores: true }, signal)) {
    if (event === "result") return (data as { result: Timeline }).result;
    if (event === "error") {
      const { error } = data as { error: { code: string; message: string; hint: string | null } };
      throw new ApiError(500, error.code, error.message, error.hint);
    }
    const { done, duration } = data as { done: number; duration: number | null };
    update({ done, duration: duration ?? 0, waiting: null });
  }
  throw new ApiError(0, "cut_off", "The answer ended before it was complete.", "Try again.");
}

/** Reads the duration from the server for videos whose preview is still being made. */
export async function readLength(ref: SourceRef, signal: AbortSignal): Promise<void> {
  const facts = await get<{ duration?: number | null }>(`${addressOf(ref)}/info`, signal);
  if (facts.duration && !length.value) length.value = facts.duration;
}

// Results of labels that were removed stay until the next look, but the page's title says what is open.
effect(() => {
  document.title = opened.value ? `${opened.value.name} – openxclip` : "openxclip";
});
