// A job: what it does, how far it is, how it ended.

import { asApiError } from "../api";
import { remaining } from "../format";
import { cancel, isOpen } from "../jobs";
import { say } from "../store";
import type { Job } from "../types";
import { Failure, Progress } from "./bits";
import { ApiError } from "../api";
import { Icon } from "./icons";

const NAMES: Record<string, string> = { index: "Indexing", train: "Training" };

export function JobRow({ job }: { job: Job }) {
  const name = NAMES[job.kind] ?? job.kind;
  const { done, total, message } = job.progress ?? {};
  if (isOpen(job)) {
    const share = total ? (done ?? 0) / total : null;
    const elapsed = job.started ? Date.now() / 1000 - job.started : 0;
    const left = share && elapsed > 3 ? remaining((elapsed / share) * (1 - share)) : total ? `${done ?? 0} of ${total}` : undefined;
    return (
      <li class="job">
        <Progress now share={job.state === "queued" ? null : share} detail={left}
          text={job.state === "queued" ? `${name} waits for its turn` : message ? `${name}: ${message}` : name}
          onStop={() => void cancel(job).catch((error: unknown) => say(asApiError(error).message))} />
      </li>
    );
  }
  const when = new Date((job.finished ?? job.created) * 1000).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
  return (
    <li class={`job ended ${job.state}`}>
      {job.state === "failed" && job.error ? (
        <Failure error={new ApiError(0, job.error.code, `${name}: ${job.error.message}`, job.error.hint ?? null)} />
      ) : (
        <p>
          <Icon name={job.state === "done" ? "check" : "close"} size={16} /> {name} {job.state === "done" ? "is done" : "was stopped"}
          <span class="edge muted">{when}</span>
        </p>
      )}
    </li>
  );
}
