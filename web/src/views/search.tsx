// Search: a sentence or a moment, and the moments of the collection that fit.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type ApiError, addressOf, asApiError, isAbort, post, whileBusy } from "../api";
import { baseName, clock, percent } from "../format";
import { useKeys } from "../keys";
import { go, hrefOf, route } from "../store";
import type { Hit, SearchAnswer } from "../types";
import { Button, Empty, Failure, Progress } from "../ui/bits";
import { Icon } from "../ui/icons";
import { Loop } from "../ui/tile";

interface Found {
  key: string;
  hits: Hit[];
  leftOut: number; // whose files are gone
  notes: string[];
  seconds: number;
}

const found = signal<Found | null>(null);
const failure = signal<ApiError | null>(null);
const waiting = signal<{ key: string; seconds: number | null } | null>(null);
const least = signal(0);
const PAGE = 24;
let searching: AbortController | null = null;

/** The field of the request that says what is searched for. */
function askedFor(query: URLSearchParams): object {
  const text = query.get("q");
  const like = query.get("like");
  if (text) return { query: text };
  if (query.get("kind") === "upload") return { upload: like };
  const times = query.has("start") ? { start: Number(query.get("start")), end: Number(query.get("end")) } : {};
  return { moment: { video: like, ...times } };
}

async function find(query: URLSearchParams, again = false): Promise<void> {
  const key = query.toString();
  if (again) found.value = null;
  if (found.value?.key === key || waiting.value?.key === key) return;
  searching?.abort();
  const controller = (searching = new AbortController());
  const body = {
    ...askedFor(query),
    k: Number(query.get("k")) || PAGE,
    ...(query.get("each") ? { per_video: Number(query.get("each")) } : {}),
  };
  failure.value = null;
  waiting.value = { key, seconds: null };
  const began = performance.now();
  try {
    const { hits, left_out: leftOut, notes } = await whileBusy(() => post<SearchAnswer>("/v1/search", body, "POST", controller.signal), {
      signal: controller.signal,
      onWait: (seconds) => (waiting.value = { key, seconds }),
    });
    if (searching === controller) {
      found.value = { key, hits, leftOut, notes, seconds: (performance.now() - began) / 1000 };
      least.value = 0;
    }
  } catch (error) {
    if (searching === controller && !isAbort(error)) {
      failure.value = asApiError(error);
      found.value = null;
    }
  } finally {
    if (searching === controller) waiting.value = null;
  }
}

export function Search() {
  const { query } = route.value;
  const text = query.get("q") ?? "";
  const like = query.get("like");
  const field = useRef<HTMLInputElement>(null);
  useKeys({ "/": () => field.current?.select() });
  useEffect(() => {
    if (text || like) void find(query);
    else if (!matchMedia("(hover: none)").matches) field.current?.focus(); // on phones it would open the keyboard
    if (field.current) field.current.value = text;
  }, [query.toString()]);

  const asked = Boolean(text || like);
  const answer = asked ? found.value : null;
  const shown = answer?.hits.filter((hit) => (hit.score ?? hit.similarity) >= least.value) ?? [];
  return (
    <div class="search">
      <h1 class="visually-hidden">Search</h1>
      <form class="ask" role="search" onSubmit={(event) => {
        event.preventDefault();
        const words = field.current!.value.trim();
        if (words && words === text) void find(query, true);
        else if (words) go("search", { q: words, each: query.get("each") });
      }}>
        <Icon name="search" size={26} />
        <input ref={field} type="search" aria-label="Describe a moment" placeholder="Describe a moment" defaultValue={text}
          autocomplete="off" enterkeyhint="search" maxLength={2000}
          onKeyDown={(event) => event.key === "Escape" && event.currentTarget.blur()} />
        <Button kind="primary" submit>Search</Button>
      </form>
      {like && (
        <p class="like">
          <span>Moments like <b>{query.get("name") ?? baseName(like)}</b>
            {query.has("start") && <span class="edge"> {clock(Number(query.get("start")))} – {clock(Number(query.get("end")))}</span>}</span>
          <a class="link" href={hrefOf("search")}>New search</a>
        </p>
      )}
      {waiting.value && <Progress share={null} onStop={() => searching?.abort()}
        text={waiting.value.seconds === null ? "Searching the collection" : `The server is busy. Trying again in ${Math.ceil(waiting.value.seconds)} s`} />}
      {failure.value && (failure.value.code === "no_index" ? <NoIndex /> : <Failure error={failure.value} onRetry={() => void find(query)} />)}
      {answer && !failure.value && (
        <>
          <Sieve hits={answer.hits} shown={shown.length} query={query} />
          {shown.length ? (
            <Hits hits={shown} />
          ) : (
            <Empty title="Nothing fits well enough">
              {answer.hits.length ? "Lower the least score to see moments that fit less well." : "The index holds no moment that fits. Try other words."}
            </Empty>
          )}
          {answer.notes.map((note) => <p class="muted small note" key={note}>{note}</p>)}
          {answer.hits.length + answer.leftOut >= (Number(query.get("k")) || PAGE) && shown.length > 0 && (
            <div class="row centre">
              <Button onClick={() => go("search", { ...Object.fromEntries(query), k: (Number(query.get("k")) || PAGE) + PAGE })}>Show more</Button>
            </div>
          )}
        </>
      )}
      {!asked && (
        <Empty title="Search by a sentence">
          Write what happens, as you would tell it: who does what. The best moments of all indexed videos play here, and each
          finds more like it.
        </Empty>
      )}
    </div>
  );
}

const FITS = 0.5; // from this score on, the sentence fits better than all neutral texts together

function Hits({ hits }: { hits: Hit[] }) {
  const list = (some: Hit[]) => <ul class="tiles hits">{some.map((hit) => <HitTile hit={hit} key={hit.id} />)}</ul>;
  const strong = hits.filter((hit) => hit.score === null || hit.score >= FITS);
  const weak = hits.filter((hit) => hit.score !== null && hit.score < FITS);
  return (
    <>
      {strong.length > 0 && list(strong)}
      {weak.length > 0 && (
        <section class={strong.length ? "weak" : ""} aria-labelledby="weak">
          <div class="section-head">
            <h2 id="weak">{strong.length ? "Weaker matches" : "Nothing fits well. The closest:"}</h2>
            <p class="small muted">Score below {percent(FITS)}: neutral texts such as “a video” fit as well or better.</p>
          </div>
          {list(weak)}
        </section>
      )}
    </>
  );
}

function NoIndex() {
  return (
    <Empty title="Nothing is indexed yet" actions={<Button kind="primary" onClick={() => go("library")}>Open the library</Button>}>
      Search needs an index of the collection. Make it once in the library; new videos are added to it later.
    </Empty>
  );
}

function Sieve({ hits, shown, query }: { hits: Hit[]; shown: number; query: URLSearchParams }) {
  const byScore = hits.some((hit) => hit.score !== null);
  return (
    <div class="sieve">
      <span role="status">{shown === hits.length ? `${shown} moments` : `${shown} of ${hits.length} moments`}</span>
      <label>
        <span>Least {byScore ? "score" : "similarity"}</span>
        <input type="range" min={0} max={1} step={0.01} value={least.value}
          onInput={(event) => (least.value = Number(event.currentTarget.value))} />
        <output class="edge">{least.value.toFixed(2)}</output>
      </label>
      <label class="check">
        <input type="checkbox" checked={query.get("each") === "1"}
          onChange={(event) => go("search", { ...Object.fromEntries(query), each: event.currentTarget.checked ? "1" : null })} />
        <span>One moment per video</span>
      </label>
    </div>
  );
}

function HitTile({ hit }: { hit: Hit }) {
  const { video } = hit;
  const name = baseName(video ?? hit.path);
  const share = hit.score ?? Math.max(0, hit.similarity);
  return (
    <li class="tile hit">
      <button type="button" class="tile-face" disabled={!video} title={video ? `Watch ${name}` : "This video is below no root of the server"}
        aria-label={`${clock(hit.start)} – ${clock(hit.end)}: watch ${name}, ${hit.score === null ? "similarity" : "score"} ${share.toFixed(2)}`}
        onClick={() => video && go("watch", { video, t: hit.start.toFixed(2) })}>
        {video ? <Loop src={`${addressOf({ kind: "video", id: video })}/stream`} poster={hit.thumbnail} start={hit.best_start} end={hit.best_end} />
          : <span class="picture missing" />}
        <span class="edge tile-time">{clock(hit.start)} – {clock(hit.end)}</span>
        <span class="track thin"><i style={{ width: `${share * 100}%` }} /></span>
      </button>
      <div class="tile-foot">
        <span class="tile-name" title={hit.path}>{name}</span>
        <span class="edge" title={hit.score === null ? "similarity" : "score"}>{hit.score === null ? hit.similarity.toFixed(2) : percent(hit.score)}</span>
        {video && (
          <a class="button quiet only-icon" aria-label={`More like ${name} at ${clock(hit.start)}`} title="More like this"
            href={hrefOf("search", { like: video, start: hit.best_start.toFixed(3), end: hit.best_end.toFixed(3) })}>
            <Icon name="more" size={18} />
          </a>
        )}
      </div>
    </li>
  );
}
