// Teach: moments of the collection to confirm or mend with one key, and what is learned from them.

import { useEffect, useRef, useState } from "preact/hooks";
import { addressOf, asApiError, frameOf } from "../api";
import { baseName, clock, count, percent } from "../format";
import { isOpen, jobs, refreshJobs, start } from "../jobs";
import { useKeys } from "../keys";
import { go, labels, say } from "../store";
import { Button, Empty, Failure, Progress } from "../ui/bits";
import { Icon } from "../ui/icons";
import { JobRow } from "../ui/job";
import { Loop } from "../ui/tile";
import { head } from "../watch-state";
import {
  classes, counts, current, exhausted, failure, give, given, guess, known, labelled, loading, notes, order, refill, refreshLabels, retrain,
  retrained, retraining, setClasses, skip, undo,
} from "../teach-state";

const ORDERS: Record<string, string> = {
  typical: "Typical moments first: each stands for a group that has no label yet.",
  margin: "Moments between two labels: the model hesitates most here.",
};

export function Teach() {
  useEffect(() => {
    refreshLabels()
      .then(() => (current.value ? undefined : refill()))
      .catch((error: unknown) => (failure.value = asApiError(error)));
    void refreshJobs().catch(() => {});
  }, []);
  const choose = (at: number) => {
    const name = classes.value[at];
    if (name) void give(name);
  };
  useKeys({
    ...Object.fromEntries(Array.from({ length: 9 }, (_, at) => [String(at + 1), () => choose(at)])),
    Enter: () => guess.value && void give(guess.value),
    ArrowRight: skip,
    z: () => void undo(),
    r: () => void retrain(),
  });

  const noIndex = failure.value?.code === "no_index";
  return (
    <div class="teach">
      <header class="view-head">
        <h1>Teach</h1>
        <p class="muted">Confirm or correct what the model sees. {given.value.length > 0 && `${count(given.value.length, "label")} in this visit.`}</p>
      </header>
      {failure.value && !noIndex && <Failure error={failure.value} onRetry={() => void refill()} onClose={() => (failure.value = null)} />}
      {noIndex ? (
        <Empty title="Teach needs an index" actions={<Button kind="primary" onClick={() => go("library")}>Open the library</Button>}>
          The moments to label come from the indexed videos. Index a folder first.
        </Empty>
      ) : !known.value ? (
        !failure.value && <Progress share={null} text="Reading the labels" />
      ) : classes.value.length < 2 ? (
        <Begin />
      ) : (
        <div class="teach-grid">
          <Card />
          <aside class="teach-side">
            <Classes onChoose={choose} />
            <Learn />
          </aside>
        </div>
      )}
    </div>
  );
}

function Begin() {
  const [text, setText] = useState(labels.value.map((label) => label.text).join("\n"));
  const ready = text.split("\n").filter((line) => line.trim()).length >= 2;
  return (
    <form class="panel begin" onSubmit={(event) => {
      event.preventDefault();
      setClasses(text.split("\n"));
      void refill();
    }}>
      <h2>What should the model tell apart?</h2>
      <p class="muted">Write at least two labels, one per line. You can add more later.</p>
      <textarea rows={6} value={text} aria-label="Labels, one per line" onInput={(event) => setText(event.currentTarget.value)} />
      <Button kind="primary" submit disabled={!ready}>Begin</Button>
    </form>
  );
}

function Card() {
  const moment = current.value;
  if (!moment)
    return (
      <section class="teach-card" aria-label="Moment">
        {loading.value ? <div class="teach-screen"><Progress share={null} text="Choosing moments" /></div> : exhausted.value ? (
          <Empty title="No moment is left">Every indexed moment has a label or was skipped. Index more videos, or retrain with what there is.</Empty>
        ) : <div class="teach-screen" />}
      </section>
    );
  const source = { kind: "video" as const, id: moment.video };
  const label = guess.value;
  return (
    <section class="teach-card" aria-label="Moment">
      <div class="teach-screen">
        <Loop key={`${moment.path}${moment.start}`} src={`${addressOf(source)}/stream`} poster={frameOf(source, (moment.start + moment.end) / 2, 640)}
          start={moment.start} end={moment.end} alone />
      </div>
      <p class="teach-where edge muted">
        <a class="link" href={`#/watch?video=${encodeURIComponent(moment.video)}&t=${moment.start}`}>{baseName(moment.path)}</a>
        <span>{clock(moment.start)} – {clock(moment.end)}</span>
      </p>
      <div class="guess" role="status">
        {label ? (
          <p><span class="muted">The model’s guess</span> <strong>{label}</strong> {moment.probability != null && <span class="edge muted">{percent(moment.probability)}</span>}</p>
        ) : <p class="muted">Which label fits?</p>}
        <div class="row">
          {label && <Button kind="primary" icon="check" keyHint="Enter" onClick={() => void give(label)}>Confirm</Button>}
          <Button icon="skip" keyHint="→" onClick={skip}>Skip</Button>
          <Button kind="quiet" icon="undo" keyHint="Z" disabled={!given.value.length} onClick={() => void undo()}>Undo</Button>
        </div>
      </div>
      <p class="muted small">{ORDERS[order.value] ?? ""} {notes.value.join(" ")}</p>
    </section>
  );
}

function Classes({ onChoose }: { onChoose: (at: number) => void }) {
  const field = useRef<HTMLInputElement>(null);
  const most = Math.max(5, ...counts.value.values());
  return (
    <section class="panel classes" aria-label="Labels">
      <h2>Labels</h2>
      <ol>
        {classes.value.map((name, at) => (
          <li key={name}>
            <button type="button" class="class-button" disabled={!current.value} onClick={() => onChoose(at)}>
              <kbd aria-hidden="true">{at < 9 ? at + 1 : ""}</kbd>
              <span>{name}</span>
              <span class="edge muted">{counts.value.get(name) ?? 0}</span>
              <span class="track thin"><i style={{ width: `${((counts.value.get(name) ?? 0) / most) * 100}%` }} /></span>
            </button>
            {!counts.value.get(name) && classes.value.length > 2 && (
              <Button kind="quiet" icon="close" label={`Remove ${name}`} onClick={() => setClasses(classes.value.filter((each) => each !== name))} />
            )}
          </li>
        ))}
      </ol>
      <form class="add-class" onSubmit={(event) => {
        event.preventDefault();
        setClasses([...classes.value, field.current!.value]);
        field.current!.value = "";
      }}>
        <input ref={field} aria-label="Another label" placeholder="Another label" maxLength={2000} autocomplete="off" />
        <Button icon="plus" label="Add the label" submit />
      </form>
    </section>
  );
}

function Learn() {
  const result = retrained.value;
  const number = labelled.value.length;
  const training = jobs.value.filter((job) => job.kind === "train").slice(0, 2);
  const train = async () => {
    try {
      await start("/v1/labels/train", {}, () => say("The training has ended."));
    } catch (error) {
      failure.value = asApiError(error);
    }
  };
  return (
    <section class="panel learn" aria-label="Learning">
      <h2>Learn</h2>
      <p class="small muted">
        {number ? `${count(number, "label")} so far. ` : "No labels yet. "}
        Retraining takes seconds and compares before with after on labels that were held out.
      </p>
      {retraining.value ? <Progress share={null} text="Retraining" /> : (
        <Button kind={result ? "plain" : "primary"} disabled={!number} keyHint="R" onClick={() => void retrain()} class="wide">Retrain</Button>
      )}
      {result && (
        <div class="gain">
          {result.before !== null && result.after !== null && (
            <>
              <p class="visually-hidden" role="status">Accuracy on held-out labels: {percent(result.before)} before, {percent(result.after)} after.</p>
              <Gauge name="Before" share={result.before} />
              <Gauge name="After" share={result.after} strong />
            </>
          )}
          <p class="small muted">
            {result.before !== null && <>Accuracy on {count(result.held_out, "held-out label")}. </>}{result.verdict} It took {result.seconds.toFixed(1)} s.
          </p>
          <label class="check">
            <input type="checkbox" checked={head.value !== null}
              onChange={(event) => (head.value = event.currentTarget.checked ? (result.head) : null)} />
            <span>Use it in Watch</span>
          </label>
        </div>
      )}
      <div class="learn-more">
        <Button disabled={!number || training.some(isOpen)} onClick={() => void train()}>Train the whole model</Button>
        <a class="link" href="/v1/labels.csv" download="labels.csv"><Icon name="folder" size={16} /> labels.csv</a>
      </div>
      {training.length > 0 && <ul class="jobs">{training.map((job) => <JobRow job={job} key={job.id} />)}</ul>}
    </section>
  );
}

function Gauge({ name, share, strong }: { name: string; share: number; strong?: boolean }) {
  return (
    <div class={`gauge${strong ? " strong" : ""}`} aria-hidden="true">
      <span>{name}</span>
      <b class="edge">{percent(share)}</b>
      <span class="track"><i style={{ width: `${share * 100}%` }} /></span>
    </div>
  );
}
