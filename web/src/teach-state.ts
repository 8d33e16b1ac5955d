// Corrections: proposed moments, the labels that were given, and what retraining gained.

import { computed, signal } from "@preact/signals";
import { type ApiError, asApiError, get, isAbort, post, whileBusy } from "./api";
import { stored, store } from "./store";
import type { Labelled, Proposal } from "./types";

export interface Retrained {
  before: number | null; // null if no label could be held out
  after: number | null;
  held_out: number;
  left_out: number;
  outcome: "better" | "worse" | "unclear";
  verdict: string;
  head: string;
  seconds: number;
}

const BATCH = 12;
const REFILL = 4;
const MOST = 100; // that the server proposes at once

export const classes = signal<string[]>(stored<string[]>("classes", []));
export const labelled = signal<Labelled[]>([]);
export const queue = signal<Proposal[]>([]);
export const known = signal(false); // whether the server's labels were read
export const order = signal<string>("");
export const notes = signal<string[]>([]);
export const loading = signal(false);
export const exhausted = signal(false);
export const failure = signal<ApiError | null>(null);
export const retraining = signal(false);
export const retrained = signal<Retrained | null>(null);
export const given = signal<{ proposal: Proposal; label: string }[]>([]); // in this visit, the newest last

export const counts = computed(() => {
  const all = new Map<string, number>(classes.value.map((name) => [name, 0]));
  for (const { label } of labelled.value) all.set(label, (all.get(label) ?? 0) + 1);
  return all;
});

export const current = computed(() => queue.value[0] ?? null);
/** The guess for the moment that is shown, if its label is still in the list. */
export const guess = computed(() => classes.value.find((name) => name === current.value?.label) ?? null);
const keyOf = (moment: { path: string; start: number | null; end: number | null }) => `${moment.path} ${moment.start} ${moment.end}`;

export function setClasses(names: string[]): void {
  const unique = [...new Set(names.map((name) => name.trim().replace(/\s+/g, " ")).filter(Boolean))];
  classes.value = unique;
  store("classes", unique);
}

export async function refreshLabels(): Promise<void> {
  const answer = await get<{ labels: Labelled[] }>("/v1/labels");
  labelled.value = answer.labels;
  known.value = true;
  setClasses([...classes.value, ...answer.labels.map((each) => each.label)]);
}

/** Asks for more moments, when few are left. */
export async function refill(): Promise<void> {
  if (loading.value || !classes.value.length) return;
  loading.value = true;
  failure.value = null;
  try {
    // the server proposes again what waits here or was skipped, so more are asked for
    const number = Math.min(MOST, BATCH + queue.value.length + skipped.size);
    const query = new URLSearchParams([["n", String(number)], ...classes.value.map((name) => ["labels", name])]);
    const answer = await whileBusy(() =>
      get<{ proposals: Proposal[]; order?: string; notes?: string[] }>(`/v1/labels/proposals?${query}`));
    const known = new Set([...queue.value, ...labelled.value].map(keyOf));
    const fresh = answer.proposals.filter((each) => !known.has(keyOf(each)) && !skipped.has(keyOf(each)));
    setClasses([...classes.value, ...fresh.map((each) => each.label ?? "")]); // others may have added labels
    queue.value = [...queue.value, ...fresh];
    order.value = answer.order ?? "";
    notes.value = answer.notes ?? [];
    exhausted.value = fresh.length === 0;
  } catch (error) {
    if (!isAbort(error)) failure.value = asApiError(error);
  } finally {
    loading.value = false;
  }
}

const skipped = new Set<string>();

function next(): void {
  queue.value = queue.value.slice(1);
  if (queue.value.length <= REFILL && !exhausted.value) void refill();
}

export function skip(): void {
  if (!current.value) return;
  skipped.add(keyOf(current.value));
  next();
}

/** Gives a label to the moment that is shown. The next moment comes at once; a failure brings this one back. */
export async function give(label: string): Promise<void> {
  const proposal = current.value;
  if (!proposal) return;
  const { path, video, start, end } = proposal;
  next();
  given.value = [...given.value, { proposal, label }];
  labelled.value = [...labelled.value, { path, video, label, start, end }];
  try {
    const { after } = await post<{ after: Labelled }>("/v1/labels", { path, label, start, end }, "PUT");
    if (after.label !== label) await useSpelling(label, after.label);
  } catch (error) {
    failure.value = asApiError(error);
    takeBack(proposal);
  }
}

/** Goes on with the spelling of a label that the server has already. */
async function useSpelling(typed: string, known: string): Promise<void> {
  setClasses(classes.value.map((name) => (name === typed ? known : name)));
  await refreshLabels();
}

function takeBack(proposal: Proposal): void {
  given.value = given.value.filter((each) => each.proposal !== proposal);
  labelled.value = labelled.value.filter((each) => keyOf(each) !== keyOf(proposal));
  queue.value = [proposal, ...queue.value.filter((each) => keyOf(each) !== keyOf(proposal))];
}

export async function undo(): Promise<void> {
  const last = given.value.at(-1);
  if (!last) return;
  const { path, start, end } = last.proposal;
  takeBack(last.proposal);
  try {
    await post("/v1/labels", { path, start, end }, "DELETE");
  } catch (error) {
    failure.value = asApiError(error);
    void refreshLabels();
  }
}

export async function retrain(): Promise<void> {
  if (retraining.value) return;
  retraining.value = true;
  failure.value = null;
  try {
    retrained.value = await whileBusy(() => post<Retrained>("/v1/labels/retrain", { labels: classes.value }));
    exhausted.value = false;
    queue.value = queue.value.slice(0, 1); // the others are chosen again by the new head
    void refill();
  } catch (error) {
    failure.value = asApiError(error);
  } finally {
    retraining.value = false;
  }
}
