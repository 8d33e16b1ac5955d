// Requests to the server. Every failure is an ApiError with the server's words.

import type { SourceRef } from "./types";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly hint: string | null = null,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

const UNREACHABLE = "The server does not answer.";
let onUnauthorized = () => {};

/** Names the function that is called when the server asks for a token. */
export function whenUnauthorized(call: () => void): void {
  onUnauthorized = call;
}

/** Makes an ApiError of any answer whose status is 400 or more. */
export async function errorOf(response: Response): Promise<ApiError> {
  let body: unknown = null;
  try {
    body = await response.json();
  } catch {
    // the status alone has to do
  }
  return errorOfBody(response.status, body, response.headers.get("Retry-After"));
}

export function errorOfBody(status: number, body: unknown, retryAfter: string | null = null): ApiError {
  const error = (body as { error?: { code?: string; message?: string; hint?: string | null } } | null)?.error;
  if (status === 401) onUnauthorized(); // the session has ended
  return new ApiError(
    status,
    error?.code ?? `status_${status}`,
    error?.message ?? `The server answered with status ${status}.`,
    error?.hint ?? null,
    retryAfter === null ? null : Number(retryAfter) || null,
  );
}

/** Sends a request and returns the answer, whose status is below 400. */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new ApiError(0, "unreachable", UNREACHABLE, "Check that openxclip serve still runs, then try again.");
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send(path, { signal })).json() as Promise<T>;
}

/** Sends JSON and returns the answer's JSON; null if it is empty. */
export async function post<T>(path: string, body?: unknown, method = "POST", signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, signal };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  const response = await send(path, init);
  return (response.status === 204 ? null : await response.json()) as T;
}

/** Waits, or throws as soon as the signal aborts. */
export function sleep(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

/** Calls again while the server's queue is full, after the time that it names; at most `tries` times. */
export async function whileBusy<T>(
  call: () => Promise<T>,
  { signal, onWait, tries = 8 }: { signal?: AbortSignal; onWait?: (seconds: number) => void; tries?: number } = {},
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 429 || attempt >= tries) throw error;
      const seconds = error.retryAfter ?? 2;
      onWait?.(seconds);
      await sleep(seconds, signal);
    }
  }
}

export interface StreamEvent {
  event: string;
  data: unknown;
}

/** Sends JSON and yields the server-sent events of the answer. */
export async function* stream(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<StreamEvent> {
  const response = await send(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    signal,
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer = (buffer + value).replaceAll("\r\n", "\n");
    for (let end = buffer.indexOf("\n\n"); end >= 0; end = buffer.indexOf("\n\n")) {
      const event = parseEvent(buffer.slice(0, end));
      buffer = buffer.slice(end + 2);
      if (event) yield event;
    }
  }
}

function parseEvent(text: string): StreamEvent | null {
  let event = "message";
  const data: string[] = [];
  for (const line of text.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) as unknown } : null;
}

/** Uploads a file, with progress from 0 to 1. */
export function upload<T>(path: string, file: File, onProgress: (share: number) => void, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.setRequestHeader("Content-Type", file.type.startsWith("video/") ? file.type : "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      let body: unknown = null;
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // the status alone has to do
      }
      if (request.status < 400) resolve(body as T);
      else reject(errorOfBody(request.status, body, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () =>
      reject(new ApiError(0, "unreachable", "The upload was interrupted.", "Check the connection, then try again."));
    signal.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(file);
  });
}

/** The address below which a video's stream, frames and facts are. */
export function addressOf(source: SourceRef): string {
  const id = source.id.split("/").map(encodeURIComponent).join("/");
  return `/v1/${source.kind === "upload" ? "uploads" : "videos"}/${id}`;
}

export function frameOf(source: SourceRef, time: number, width: number): string {
  return `${addressOf(source)}/frame?t=${Math.max(0, time).toFixed(2)}&width=${width}`;
}

/** The field of a request's JSON that names a video. */
export function fieldOf(source: SourceRef): Record<string, string> {
  return source.kind === "upload" ? { upload: source.id } : { video: source.id };
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, "page_error", error instanceof Error ? error.message : String(error));
}
