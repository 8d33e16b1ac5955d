// Labels as chips: type, press Enter; paste a list; Backspace in the empty field removes the last one.

import type { RefObject } from "preact";
import { useState } from "preact/hooks";
import { type Label, labels, model, say, store, stored, withLabels } from "../store";
import { Button, Menu } from "./bits";
import { Icon } from "./icons";

interface Preset {
  name: string;
  labels: string[];
}

const PRESETS: Preset[] = [
  {
    name: "Playground",
    labels: ["a cat moves left", "a cat moves right", "a fox chases a chick", "an owl vanishes", "a rocket leaves",
      "an eagle picks up a snake", "a mouse hides behind an elephant"],
  },
  { name: "Sport", labels: ["a goal is scored", "players celebrate", "a player falls", "a free kick", "the crowd cheers"] },
  { name: "Street", labels: ["a person crosses the street", "a car turns", "a cyclist passes", "an empty street"] },
  { name: "Home", labels: ["cooking", "cleaning the floor", "opening a door", "using a phone", "sitting down", "standing up"] },
  { name: "Workshop", labels: ["sawing wood", "hammering", "drilling", "painting", "measuring"] },
];

const SEPARATORS = /[\n,;]+/; // on a phone's keyboard and in dictation a comma is no key, but part of the text

export function LabelField({ input, onEnter }: { input?: RefObject<HTMLInputElement | null>; onEnter: () => void }) {
  const [text, setText] = useState("");
  const current = labels.value;

  const add = (texts: string[]) => {
    labels.value = withLabels(labels.value, texts);
    setText("");
  };
  const remove = (label: Label) => {
    const before = labels.value;
    labels.value = before.filter((each) => each !== label);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key === "Enter" || event.key === ",") {
      event.preventDefault();
      if (text.trim()) add(text.split(SEPARATORS));
      else if (event.key === "Enter") onEnter();
    } else if (event.key === "Backspace" && !text && current.length) {
      remove(current[current.length - 1]!);
    } else if (event.key === "Escape") {
      (event.target as HTMLElement).blur();
    }
  };
  const onPaste = (event: ClipboardEvent) => {
    const pasted = event.clipboardData?.getData("text") ?? "";
    if (!SEPARATORS.test(pasted)) return;
    event.preventDefault();
    add(pasted.split(SEPARATORS));
  };

  return (
    <div class="labels">
      <div class="labels-head">
        <h2 id="labels-title">Look for</h2>
        <Presets onChoose={(texts) => (labels.value = withLabels([], texts))} />
      </div>
      <div class="label-box" onClick={(event) => event.target === event.currentTarget && input?.current?.focus()}>
        {current.map((label) => (
          <span class={`chip ink-${label.ink}`} key={label.text}>
            <i class="dot" />
            <span>{label.text}</span>
            <button type="button" aria-label={`Remove ${label.text}`} onClick={() => remove(label)}>
              <Icon name="close" size={12} />
            </button>
          </span>
        ))}
        <input
          ref={input}
          value={text}
          aria-labelledby="labels-title"
          placeholder={current.length ? "Another label" : "a dog jumps, a door opens"}
          autocomplete="off"
          autocapitalize="none"
          enterkeyhint="done"
          maxLength={2000}
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={onKeyDown}
          onPaste={onPaste}
          onBlur={() => text.trim() && add(text.split(SEPARATORS))}
        />
      </div>
    </div>
  );
}

function Presets({ onChoose }: { onChoose: (texts: string[]) => void }) {
  const [own, setOwn] = useState<Preset[]>(() => stored<Preset[]>("presets", []));
  const calibrated = Object.keys(model.value?.contract?.labels ?? {});
  const all = [...own, ...(calibrated.length ? [{ name: "The model’s calibrated labels", labels: calibrated }] : []), ...PRESETS];
  const save = (presets: Preset[]) => {
    setOwn(presets);
    store("presets", presets);
  };
  return (
    <Menu label="Presets" icon="list" kind="quiet" align="end">
      {(close) => (
        <>
          {all.map((preset, at) => (
            <div class="menu-row" key={`${preset.name}${at}`}>
              <button type="button" class="menu-item" onClick={() => { onChoose(preset.labels); close(); }}>
                <b>{preset.name}</b>
                <small>{preset.labels.join(" · ")}</small>
              </button>
              {at < own.length && (
                <Button kind="quiet" icon="trash" label={`Delete the preset ${preset.name}`}
                  onClick={() => save(own.filter((each) => each !== preset))} />
              )}
            </div>
          ))}
          {labels.value.length > 0 && (
            <button type="button" class="menu-item save" onClick={() => {
              const texts = labels.value.map((label) => label.text);
              save([{ name: texts.slice(0, 2).join(", ") + (texts.length > 2 ? " …" : ""), labels: texts }, ...own].slice(0, 12));
              say("These labels are now a preset in this browser.");
              close();
            }}>
              <b>Save these labels</b>
            </button>
          )}
        </>
      )}
    </Menu>
  );
}
