// Jobs of the server, followed by their events.

import { signal } from "@preact/signals";
import { get, post } from "./api";
import type { Job } from "./types";

export const jobs = signal<Job[]>([]);
const sources = new Map<string, EventSource>();
const atEnd = new Map<string, () => void>();

export function isOpen(job: Job): boolean {
  return job.state === "queued" || job.state === "running";
}

function put(job: Job): void {
  const known = jobs.value.some((each) => each.id === job.id);
  jobs.value = known ? jobs.value.map((each) => (each.id === job.id ? job : each)) : [job, ...jobs.value];
  if (isOpen(job)) follow(job.id);
  else {
    sources.get(job.id)?.close();
    sources.delete(job.id);
    atEnd.get(job.id)?.();
    atEnd.delete(job.id);
  }
}

/** Reads a job again at each of its events; EventSource connects again by itself. */
function follow(id: string): void {
  if (sources.has(id)) return;
  const source = new EventSource(`/v1/jobs/${id}/events`);
  sources.set(id, source);
  let timer: ReturnType<typeof setTimeout> | undefined;
  const read = () => {
    clearTimeout(timer);
    timer = setTimeout(() => void get<Job>(`/v1/jobs/${id}`).then(put).catch(() => {}), 100);
  };
  for (const name of ["state", "progress", "note", "open", "error"])
    source.addEventListener(name, read);
}

export async function refreshJobs(): Promise<void> {
  const answer = await get<{ jobs: Job[] }>("/v1/jobs");
  jobs.value = answer.jobs;
  answer.jobs.filter(isOpen).forEach((job) => follow(job.id));
}

export async function start(path: string, body: unknown, onEnd: () => void): Promise<Job> {
  const job = await post<Job>(path, body);
  atEnd.set(job.id, onEnd);
  put(job);
  return job;
}

export async function cancel(job: Job): Promise<void> {
  put(await post<Job>(`/v1/jobs/${job.id}`, undefined, "DELETE"));
}
