// The shell: navigation, the model's badge, messages, and the view.

import { useEffect, useRef, useState } from "preact/hooks";
import { HELP, useKeys } from "./keys";
import {
  follow, go, helpOpen, model, ready, refreshModel, refreshReady, refreshSession, route, say, session, theme, toast,
  unreachable, VIEWS, type Theme, type View,
} from "./store";
import { type ApiError, asApiError, post } from "./api";
import { Button, Failure, Menu, Modal, Progress } from "./ui/bits";
import { Icon, Logo, type IconName } from "./ui/icons";
import { Door } from "./views/door";
import { Library } from "./views/library";
import { Search } from "./views/search";
import { Teach } from "./views/teach";
import { Watch } from "./views/watch";
import { opened, send } from "./watch-state";

const NAMES: Record<View, string> = { watch: "Watch", search: "Search", library: "Library", teach: "Teach" };
const BODIES: Record<View, () => preact.JSX.Element> = { watch: Watch, search: Search, library: Library, teach: Teach };

export function App() {
  const [error, setError] = useState<ApiError | null>(null);
  const begin = () => {
    setError(null);
    refreshSession().catch((reason: unknown) => setError(asApiError(reason)));
  };
  useEffect(begin, []);
  const allowed = session.value && (session.value.authenticated || !session.value.required);
  useEffect(() => {
    if (!allowed) return;
    void refreshReady().then(follow);
    void refreshModel().catch(() => {}); // the badge says that the model isn't known
  }, [allowed]);
  if (error) return <main class="door"><Failure error={error} onRetry={begin} /></main>;
  if (!session.value) return <main class="door"><Progress share={null} text="Opening" /></main>;
  return allowed ? <Shell /> : <Door />;
}

function Shell() {
  const { view } = route.value;
  const main = useRef<HTMLElement>(null);
  const dropping = useDrop();
  useKeys({
    w: () => go("watch"),
    s: () => go("search"),
    l: () => go("library"),
    t: () => go("teach"),
    "?": () => (helpOpen.value = true),
  });
  useEffect(() => scrollTo(0, 0), [view]);
  const Body = BODIES[view];
  return (
    <div class="shell">
      <a class="skip-link" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>Skip to the content</a>
      <header class="rail">
        <a class="brand" href="#/watch" aria-label="openxclip"><Logo /><span>openxclip</span></a>
        <nav aria-label="Views">
          {VIEWS.map((name) => (
            <a key={name} href={`#/${name}`} aria-current={name === view ? "page" : undefined}>
              <Icon name={name as IconName} /><span>{NAMES[name]}</span>
            </a>
          ))}
        </nav>
        <div class="rail-foot">
          <Badge />
          <div class="rail-tools">
            <ThemeButton />
            <Button kind="quiet" icon="help" label="Keys" onClick={() => (helpOpen.value = true)} />
            {session.value?.required && <Button kind="quiet" icon="close" label="Forget the token" onClick={() => void leave()} />}
          </div>
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {unreachable.value && (
          <p class="banner" role="alert"><Icon name="warn" size={18} /> The server does not answer. This page tries again by itself.</p>
        )}
        <Body />
      </main>
      {dropping && <div class="drop-veil" aria-hidden="true"><p>Drop the video to watch it</p></div>}
      {toast.value && (
        <div class="toast" role="status">
          <span>{toast.value.text}</span>
          {toast.value.action && <button type="button" class="link" onClick={() => { toast.value!.action!.run(); toast.value = null; }}>{toast.value.action.label}</button>}
        </div>
      )}
      {helpOpen.value && <Help />}
    </div>
  );
}

async function leave(): Promise<void> {
  try {
    await post("/v1/session", undefined, "DELETE");
    await refreshSession();
  } catch (error) {
    say(asApiError(error).message);
  }
}

const STATES = { ready: "ready", idle: "not loaded", loading: "loading", failed: "failed" };

/** Which model answers, how precisely it computes, and what it does now. */
function Badge() {
  const state = ready.value;
  const facts = model.value;
  const name = (facts?.id ?? state?.model ?? "").split("/").pop() || "model";
  const status = unreachable.value ? "failed" : (state?.status ?? "idle");
  const work = (state?.running ?? 0) + (state?.queue ?? 0);
  const short = unreachable.value ? "no answer" : work > 0 ? `${work} at work` : status === "ready" ? (facts?.precision ?? "ready") : STATES[status];
  return (
    <Menu kind="quiet" label={
      <span class={`badge ${status}${work ? " working" : ""}`}>
        <i class="lamp" />
        <span class="badge-name">{name}</span>
        <span class="edge muted">{short}</span>
      </span>
    }>
      {() => (
        <dl class="facts badge-facts">
          <div class="wide-fact"><dt>Model</dt><dd>{facts?.id ?? state?.model ?? "not known"}</dd></div>
          <div><dt>State</dt><dd>{STATES[status]}</dd></div>
          <div><dt>Precision</dt><dd>{facts?.precision ?? "–"}</dd></div>
          <div><dt>Device</dt><dd>{facts?.device ?? "–"}</dd></div>
          <div><dt>At work</dt><dd>{state?.running ?? 0}</dd></div>
          <div><dt>Waiting</dt><dd>{state?.queue ?? 0}</dd></div>
          {state?.message && <div class="wide-fact"><dt>Problem</dt><dd>{state.message}</dd></div>}
          <div class="wide-fact"><dt>API</dt><dd><a class="link" href="/docs">Documentation</a></dd></div>
        </dl>
      )}
    </Menu>
  );
}

const THEMES: Theme[] = ["system", "light", "dark"];

function ThemeButton() {
  const now = theme.value;
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]!;
  return <Button kind="quiet" icon={now} label={`Colours: ${now}. Change to ${next}`} onClick={() => (theme.value = next)} />;
}

/** A file that is dropped anywhere is opened in Watch. */
function useDrop(): boolean {
  const [over, setOver] = useState(false);
  useEffect(() => {
    let depth = 0;
    const hasFile = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const enter = (event: DragEvent) => { if (hasFile(event)) { depth++; setOver(true); } };
    const out = () => { depth = Math.max(0, depth - 1); if (!depth) setOver(false); };
    const allow = (event: DragEvent) => hasFile(event) && event.preventDefault();
    const drop = (event: DragEvent) => {
      depth = 0;
      setOver(false);
      const file = event.dataTransfer?.files[0];
      if (!file) return;
      event.preventDefault();
      if (event.dataTransfer!.files.length > 1) say("One video at a time: the first one is opened.");
      if (route.value.view !== "watch" || opened.value) go("watch");
      void send(file);
    };
    addEventListener("dragenter", enter);
    addEventListener("dragleave", out);
    addEventListener("dragover", allow);
    addEventListener("drop", drop);
    return () => {
      removeEventListener("dragenter", enter);
      removeEventListener("dragleave", out);
      removeEventListener("dragover", allow);
      removeEventListener("drop", drop);
    };
  }, []);
  return over;
}

function Help() {
  return (
    <Modal title="Keys" onClose={() => (helpOpen.value = false)}>
      <h2>Keys</h2>
      <div class="help">
        {HELP.map(({ title, keys }) => (
          <section key={title}>
            <h3>{title}</h3>
            <dl>
              {keys.map(([names, what]) => (
                <div key={names}>
                  <dt>{names.split(/\s+/).map((name) => (name === "…" ? "…" : <kbd key={name}>{name}</kbd>))}</dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Modal>
  );
}
