// A job: what it does, how far it is, how it ended.

import { ApiError, asApiError } from "../api";
import { baseName, count, percent, remaining } from "../format";
import { cancel, isOpen } from "../jobs";
import { say } from "../store";
import type { Job } from "../types";
import { Failure, Progress } from "./bits";
import { Icon } from "./icons";

const NAMES: Record<string, string> = { index: "Indexing", train: "Training" };

export function JobRow({ job }: { job: Job }) {
  if (isOpen(job)) return <li class="job"><Open job={job} /></li>;
  const name = NAMES[job.kind] ?? job.kind;
  const when = new Date((job.finished ?? job.created) * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  const errors = job.result?.errors ?? [];
  return (
    <li class={`job ended ${job.state}`}>
      {job.state === "failed" && job.error ? (
        <Failure error={new ApiError(0, job.error.code, `${name}: ${job.error.message}`, job.error.hint ?? null)} />
      ) : (
        <p>
          <Icon name={job.state === "done" ? "check" : "close"} size={16} />
          <b>{name} {job.state === "done" ? "is done" : "was stopped"}</b>
          <span class="edge muted">{when}</span>
        </p>
      )}
      {job.state === "done" && <p class="muted">{summary(job)}</p>}
      {errors.length > 0 && (
        <details>
          <summary>{count(errors.length, "problem")}</summary>
          <ul>{errors.slice(0, 50).map(({ path, reason }) => <li key={path}><b>{path}</b>: {reason}</li>)}</ul>
        </details>
      )}
    </li>
  );
}

function Open({ job }: { job: Job }) {
  const name = NAMES[job.kind] ?? job.kind;
  const { done, total, current, current_done, current_duration, note } = job.progress ?? {};
  const part = current_duration ? Math.min(1, (current_done ?? 0) / current_duration) : 0;
  const share = total && job.state === "running" ? ((done ?? 0) + part) / total : null;
  const elapsed = job.started ? Date.now() / 1000 - job.started : 0;
  const left = share && elapsed > 3 ? remaining((elapsed / share) * (1 - share)) : undefined;
  return (
    <>
      <Progress now share={share} detail={left} text={job.state === "queued" ? `${name} waits for its turn` : name}
        onStop={() => void cancel(job).catch((error: unknown) => say(asApiError(error).message))} />
      {total ? <p class="edge muted job-now"><span>{done ?? 0} of {total}</span> <span>{current ? baseName(current) : note}</span></p> : null}
    </>
  );
}

function summary({ result }: Job): string {
  if (!result) return "";
  if (result.model !== undefined) {
    const metrics = Object.entries(result.metrics ?? {}).map(([name, value]) => `${name} ${value <= 1 ? percent(value) : value.toFixed(1)}`);
    return [`The model is ${result.model}.`, ...metrics].join(" ");
  }
  const parts = [
    result.added ? `${count(result.added, "video")} added` : "",
    result.unchanged ? `${result.unchanged} known already` : "",
    result.removed ? `${count(result.removed, "deleted video")} removed` : "",
    result.unreadable ? `${result.unreadable} not readable` : "",
    result.empty?.length ? `no videos in ${result.empty.join(", ")}` : "",
  ].filter(Boolean);
  const text = parts.join(", ");
  return text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}.` : "Nothing to add.";
}
