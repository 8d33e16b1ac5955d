// What all views share: the route, the theme, the session, the server's state and the labels.

import { effect, signal } from "@preact/signals";
import { get, whenUnauthorized } from "./api";
import type { ModelInfo, Ready, Session } from "./types";

export const VIEWS = ["watch", "search", "library", "teach"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  query: URLSearchParams;
}

function readRoute(): Route {
  const [name, query] = location.hash.replace(/^#\/?/, "").split("?");
  const view = VIEWS.find((each) => each === name) ?? "watch";
  return { view, query: new URLSearchParams(query) };
}

export const route = signal<Route>(readRoute());
addEventListener("hashchange", () => (route.value = readRoute()));

export function hrefOf(view: View, query: Record<string, string | number | null | undefined> = {}): string {
  const kept = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
  return `#/${view}${text ? `?${text}` : ""}`;
}

export function go(view: View, query: Record<string, string | number | null | undefined> = {}): void {
  location.hash = hrefOf(view, query);
}

// --- theme ---

export type Theme = "system" | "light" | "dark";

export function stored<T>(name: string, fallback: T): T {
  try {
    const text = localStorage.getItem(`openxclip.${name}`);
    return text === null ? fallback : (JSON.parse(text) as T);
  } catch {
    return fallback; // no storage, or a value of another version
  }
}

export function store(name: string, value: unknown): void {
  try {
    localStorage.setItem(`openxclip.${name}`, JSON.stringify(value));
  } catch {
    // private windows may have no storage: the setting lasts until the page is closed
  }
}

export const theme = signal<Theme>(stored<Theme>("theme", "system"));
effect(() => {
  if (theme.value === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = theme.value;
  store("theme", theme.value);
});

// --- labels, each with the number of its ink, so that colours stay when others are removed ---

export interface Label {
  text: string;
  ink: number;
}

export const INKS = 8;
export const labels = signal<Label[]>(stored<Label[]>("labels", []));
effect(() => store("labels", labels.value));

export function withLabels(current: Label[], texts: string[]): Label[] {
  const next = [...current];
  for (const each of texts) {
    const text = each.trim().replace(/\s+/g, " ");
    if (!text || next.some((label) => label.text === text)) continue;
    const used = next.slice(-(INKS - 1)).map((label) => label.ink);
    const free = Array.from({ length: INKS }, (_, ink) => ink).find((ink) => !used.includes(ink)) ?? 0;
    next.push({ text, ink: free });
  }
  return next;
}

export function inkOf(text: string): number {
  return labels.value.find((label) => label.text === text)?.ink ?? INKS - 1; // labels that only corrections know share the last ink
}

// --- session and server ---

export const session = signal<Session | null>(null);
export const ready = signal<Ready | null>(null);
export const model = signal<ModelInfo | null>(null);
export const unreachable = signal(false);

whenUnauthorized(() => {
  if (session.value?.authenticated) session.value = { required: true, authenticated: false };
});

export async function refreshSession(): Promise<void> {
  session.value = await get<Session>("/v1/session");
}

/** Asks for the engine's state; 503 is a state too. */
export async function refreshReady(): Promise<void> {
  try {
    const response = await fetch("/readyz", { credentials: "same-origin" });
    const body = (await response.json()) as Partial<Ready> & { error?: { code: string; message: string }; problem?: string | null };
    ready.value = {
      status: body.status ?? (body.error?.code === "model_loading" ? "loading" : "failed"),
      model: body.model ?? ready.value?.model ?? "",
      queue: body.queue ?? 0,
      running: body.running ?? 0,
      message: body.error?.message ?? body.problem ?? undefined,
    };
    unreachable.value = false;
  } catch {
    unreachable.value = true;
  }
}

export async function refreshModel(): Promise<void> {
  const { data } = await get<{ data: ModelInfo[] }>("/v1/models");
  model.value = data[0] ?? null;
}

let timer: ReturnType<typeof setTimeout> | undefined;

/** Follows the engine's state while the page is seen: often while it loads or works, seldom otherwise. */
export function follow(): void {
  clearTimeout(timer);
  const state = ready.value;
  const busy = unreachable.value || state?.status === "loading" || (state?.running ?? 0) + (state?.queue ?? 0) > 0;
  timer = setTimeout(() => {
    if (document.hidden) return follow();
    const before = ready.value?.status;
    void refreshReady().then(() => {
      if (ready.value?.status !== before && session.value?.authenticated) void refreshModel().catch(() => {});
      follow();
    });
  }, busy ? 1500 : 10000);
}

// --- messages that go by themselves ---

export interface Toast {
  text: string;
  action?: { label: string; run: () => void };
}

export const toast = signal<Toast | null>(null);
let toastTimer: ReturnType<typeof setTimeout> | undefined;

export function say(text: string, action?: Toast["action"]): void {
  toast.value = action ? { text, action } : { text };
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (toast.value = null), action ? 8000 : 4000);
}

export const helpOpen = signal(false);
