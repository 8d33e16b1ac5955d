// What the server answers. Times are in seconds, sizes in bytes; null means that there is no value.

export type SourceRef = { kind: "video" | "upload"; id: string };

export interface Session {
  required: boolean;
  authenticated: boolean;
}

export interface Ready {
  status: "ready" | "idle" | "loading" | "failed";
  model: string;
  queue: number;
  running: number;
  message?: string; // why the model can't be loaded, or the index not searched
}

export interface ModelInfo {
  id: string;
  precision?: string | null;
  device?: string | null;
  state?: string;
  contract?: { window?: number; labels?: Record<string, number> } | null;
}

export interface LabelResult {
  label: string;
  probability: number;
  score: number | null;
}

export interface Classification {
  outcome: string;
  labels: LabelResult[];
  none_of_these: number | null;
}

export interface Segment {
  label: string;
  start: number;
  end: number;
  score: number | null;
  peak: number | null;
}

export interface Timeline {
  duration: number | null;
  window: number | null;
  stride: number | null;
  windows: number;
  labels: { label: string; threshold: number | null; best: number | null; best_time: number | null }[];
  segments: Segment[];
  notes: string[];
  scores?: { start: number[]; end: number[]; labels: Record<string, (number | null)[]> } | null;
  error?: string | null;
}

export interface Hit {
  id: string;
  video: string | null;
  path: string;
  start: number;
  end: number;
  best_start: number;
  best_end: number;
  duration: number | null;
  windows: number;
  score: number | null;
  similarity: number;
  reranked: boolean;
  thumbnail: string | null;
  preview: string | null;
}

export interface SearchAnswer {
  hits: Hit[];
  left_out: number;
  notes: string[];
}

export interface Video {
  id: string;
  name: string;
  root: string;
  size: number;
  duration?: number | null;
}

export interface VideoPage {
  videos: Video[];
  total: number;
  next: number | null;
  roots: string[];
}

export interface Upload {
  id: string;
  name: string;
  size: number;
  duration?: number | null;
}

export interface IndexInfo {
  videos: number;
  windows: number;
  model: string | null;
  window?: number | null;
  stride?: number | null;
}

export interface JobResult {
  added?: number;
  unchanged?: number;
  removed?: number;
  unreadable?: number;
  empty?: string[]; // folders without videos
  errors?: { path: string; reason: string }[];
  model?: string;
  metrics?: Record<string, number>;
}

export interface Job {
  id: string;
  kind: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  created: number;
  started: number | null;
  finished: number | null;
  progress: {
    done?: number | null;
    total?: number | null;
    current?: string | null; // the video that is read now, and how far
    current_done?: number | null;
    current_duration?: number | null;
    note?: string | null;
  } | null;
  result: JobResult | null;
  error: { code: string; message: string; hint?: string | null } | null;
}

export interface Proposal {
  video: string;
  path: string;
  start: number;
  end: number;
  label?: string | null;
  probability?: number | null;
}

export interface Labelled {
  path: string;
  video?: string;
  label: string;
  start: number | null;
  end: number | null;
}
