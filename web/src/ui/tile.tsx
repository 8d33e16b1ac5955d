// Tiles: a still picture of a video, and a moment that plays while it is seen.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { frameOf } from "../api";
import { clock } from "../format";
import type { SourceRef } from "../types";

export function VideoTile({ source, name, size, duration, detail, onOpen, children }: {
  source: SourceRef;
  size?: number; // bytes
  name: string;
  duration?: number | null;
  detail?: string;
  onOpen: () => void;
  children?: ComponentChildren;
}) {
  return (
    <div class="tile">
      <button type="button" class="tile-face" onClick={onOpen} title={name}>
        {size === 0 ? <span class="picture empty-file" /> : <Picture src={frameOf(source, duration ? duration / 3 : 0.7, 320)} />}
        {duration ? <span class="edge tile-time">{clock(duration, 0)}</span> : null}
        <span class="tile-name">{name}</span>
        {detail && <span class="edge muted">{detail}</span>}
      </button>
      {children}
    </div>
  );
}

/** An image that says by its look that it is on its way, or missing. */
export function Picture({ src }: { src: string }) {
  const [state, setState] = useState<"" | "there" | "missing">("");
  return (
    <span class={`picture ${state}`}>
      <img src={src} alt="" loading="lazy" draggable={false} onLoad={() => setState("there")} onError={() => setState("missing")} />
    </span>
  );
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");

interface Player {
  play: () => void;
  rest: () => void;
}

/**
 * Lets some of the moments that are seen play, in turns. A browser has six connections to a server and a playing video
 * keeps one, so all at once would leave none for requests. A moment below the pointer plays at once.
 */
class Stage {
  private readonly waiting: Player[] = [];
  private readonly active: { player: Player; since: number }[] = [];
  private timer: ReturnType<typeof setInterval> | undefined;

  constructor(private readonly places: number, private readonly turn: number) {}

  enter(player: Player, now = false): void {
    if (this.active.some((each) => each.player === player)) return;
    this.drop(player);
    if (now) {
      if (this.active.length >= this.places) this.rest(this.active[0]!.player);
      this.start(player);
    } else this.waiting.push(player);
    this.fill();
    this.timer ??= setInterval(() => this.turnOver(), 1000);
  }

  leave(player: Player): void {
    this.drop(player);
    this.rest(player);
    this.fill();
    if (!this.active.length) {
      clearInterval(this.timer);
      this.timer = undefined;
    }
  }

  private turnOver(): void {
    const old = this.active.find((each) => Date.now() - each.since > this.turn);
    if (!old || !this.waiting.length) return;
    this.rest(old.player);
    this.waiting.push(old.player);
    this.fill();
  }

  private fill(): void {
    while (this.active.length < this.places && this.waiting.length) this.start(this.waiting.shift()!);
  }

  private start(player: Player): void {
    this.active.push({ player, since: Date.now() });
    player.play();
  }

  private rest(player: Player): void {
    const at = this.active.findIndex((each) => each.player === player);
    if (at < 0) return;
    this.active.splice(at, 1);
    player.rest();
  }

  private drop(player: Player): void {
    const at = this.waiting.indexOf(player);
    if (at >= 0) this.waiting.splice(at, 1);
  }
}

const stage = new Stage(4, 5000);

/** Plays a part of a video again and again while it is seen; only below the pointer or focus if motion is reduced. */
export function Loop({ src, poster, start, end, alone = false }: {
  src: string;
  poster?: string | null;
  start: number;
  end: number;
  alone?: boolean; // the only one in the view, which plays always
}) {
  const video = useRef<HTMLVideoElement>(null);
  const [moving, setMoving] = useState(false);
  const [picture, setPicture] = useState<"" | "there" | "missing">(poster ? "" : "missing");

  useEffect(() => {
    const element = video.current!;
    const face = element.closest(".tile-face, .teach-screen") ?? element;
    let isPlaying = false;
    const player: Player = {
      play: () => {
        isPlaying = true;
        element.src = src;
        element.play().catch(() => {}); // a video that can't be played keeps its picture
      },
      rest: () => {
        isPlaying = false;
        setMoving(false);
        element.removeAttribute("src");
        element.load(); // ends its connection
      },
    };
    const onMetadata = () => start > 0 && (element.currentTime = start);
    const onTime = () => {
      if (!isPlaying || element.readyState < 2) return;
      if (element.currentTime >= end || element.ended) element.currentTime = start;
      else if (element.currentTime >= start - 0.05) setMoving(true); // until then the picture hides the seek
    };
    const onEnd = () => {
      element.currentTime = start;
      void element.play().catch(() => {});
    };
    element.addEventListener("loadedmetadata", onMetadata);
    element.addEventListener("timeupdate", onTime);
    element.addEventListener("ended", onEnd);
    const enter = () => stage.enter(player, true);
    const leave = () => calm.matches && stage.leave(player);
    const observer = new IntersectionObserver(([entry]) => {
      if (!entry?.isIntersecting) stage.leave(player);
      else if (!calm.matches) stage.enter(player, alone);
    }, { threshold: 0.4 });
    observer.observe(element);
    face.addEventListener("pointerenter", enter);
    face.addEventListener("pointerleave", leave);
    face.addEventListener("focus", enter);
    face.addEventListener("blur", leave);
    return () => {
      observer.disconnect();
      stage.leave(player);
      element.removeEventListener("loadedmetadata", onMetadata);
      element.removeEventListener("timeupdate", onTime);
      element.removeEventListener("ended", onEnd);
      face.removeEventListener("pointerenter", enter);
      face.removeEventListener("pointerleave", leave);
      face.removeEventListener("focus", enter);
      face.removeEventListener("blur", leave);
    };
  }, [src, start, end]);

  return (
    <span class={`picture loop ${moving ? "moving there" : picture}`}>
      <video ref={video} preload="none" muted playsInline tabIndex={-1} aria-hidden="true" />
      {poster && <img src={poster} alt="" loading="lazy" onLoad={() => setPicture("there")} onError={() => setPicture("missing")} />}
    </span>
  );
}
