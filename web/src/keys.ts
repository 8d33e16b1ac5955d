// Keyboard shortcuts: a view registers its keys while it is shown. Keys do nothing while a text is typed.

import { useEffect, useRef } from "preact/hooks";

export type Keys = Record<string, (event: KeyboardEvent) => void>;

const active: { current: Keys }[] = [];

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.isContentEditable || /^(TEXTAREA|SELECT)$/.test(target.tagName) ||
    (target instanceof HTMLInputElement && !["range", "checkbox", "radio", "button"].includes(target.type));
}

/** A button or link is pressed by these keys, and a slider is moved, so no shortcut may take them there. */
function belongsTo(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (key === " " || key === "Enter") return target.closest("button, a, summary, input") !== null;
  if (key.startsWith("Arrow") || key === "Home" || key === "End")
    return target.closest("input[type=range], [role=slider], [role=radiogroup]") !== null;
  return false;
}

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target) || belongsTo(event.target, event.key)) return;
  if (document.querySelector("dialog[open]")) return; // a dialog has its own keys
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  for (const keys of [...active].reverse()) {
    const call = keys.current[key];
    if (call) {
      event.preventDefault();
      call(event);
      return;
    }
  }
});

/** Registers keys while the component is shown. */
export function useKeys(keys: Keys): void {
  const ref = useRef(keys);
  ref.current = keys;
  useEffect(() => {
    active.push(ref);
    return () => {
      active.splice(active.indexOf(ref), 1);
    };
  }, []);
}

/** What the overlay lists. */
export const HELP: { title: string; keys: [string, string][] }[] = [
  {
    title: "Everywhere",
    keys: [
      ["W  S  L  T", "Watch, Search, Library, Teach"],
      ["/", "Type labels or a sentence"],
      ["?", "Show these keys"],
      ["Esc", "Close, or leave a text field"],
    ],
  },
  {
    title: "Watch",
    keys: [
      ["Enter", "Look for the labels, in the empty label field"],
      ["Space", "Play or pause"],
      ["←  →", "Back or forward 1 second"],
      [",  .", "Back or forward one frame"],
      ["[  ]", "Previous or next segment"],
      ["−  +", "Zoom the timeline"],
      ["M", "Sound on or off"],
      ["U", "Choose a video to upload"],
    ],
  },
  {
    title: "Teach",
    keys: [
      ["1 … 9", "Give the label with this number"],
      ["Enter", "Confirm the guess"],
      ["→", "Skip this moment"],
      ["Z", "Take the last label back"],
      ["R", "Retrain"],
    ],
  },
];
