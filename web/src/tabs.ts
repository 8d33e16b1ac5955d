// The tabs of this browser are one visit of the server, which ends with the last of them.

type Message = { kind: "hello" | "here" | "bye"; tab: string };

/** Says goodbye to the server when this tab is closed and no other is open: the uploads are deleted after a minute. */
export function endVisitWithLastTab(): void {
  const own = `${Date.now()}-${Math.random()}`;
  const others = new Set<string>();
  const channel = new BroadcastChannel("openxclip");
  const tell = (kind: Message["kind"]) => channel.postMessage({ kind, tab: own } satisfies Message);
  channel.onmessage = ({ data }: MessageEvent<Message>) => {
    if (data.kind === "bye") others.delete(data.tab);
    else others.add(data.tab);
    if (data.kind === "hello") tell("here");
  };
  tell("hello");
  addEventListener("pagehide", () => {
    tell("bye");
    if (!others.size) navigator.sendBeacon("/v1/visits/end");
  });
  addEventListener("pageshow", (event) => event.persisted && tell("hello")); // back from the browser's cache
}
