// Tiles: a still picture of a video, and a moment that plays while it is seen.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { frameOf } from "../api";
import { clock } from "../format";
import type { SourceRef } from "../types";

export function VideoTile({ source, name, duration, detail, onOpen, children }: {
  source: SourceRef;
  name: string;
  duration?: number | null;
  detail?: string;
  onOpen: () => void;
  children?: ComponentChildren;
}) {
  return (
    <div class="tile">
      <button type="button" class="tile-face" onClick={onOpen} title={name}>
        <Picture src={frameOf(source, duration ? duration / 3 : 0.7, 320)} />
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

/** Plays a part of a video again and again while it is seen; only below the pointer or focus if motion is reduced. */
export function Loop({ src, poster, start, end, autoplay = true, class: name = "" }: {
  src: string;
  poster?: string | null;
  start: number;
  end: number;
  autoplay?: boolean;
  class?: string;
}) {
  const video = useRef<HTMLVideoElement>(null);
  const [missing, setMissing] = useState(false);
  const [loaded, setLoaded] = useState(false);

  useEffect(() => {
    const element = video.current!;
    const face = element.closest(".tile-face, .teach-screen") ?? element;
    const play = () => {
      setLoaded(true);
      requestAnimationFrame(() => void element.play().catch(() => {}));
    };
    const pause = () => element.pause();
    const tick = () => {
      if (element.currentTime >= end || element.currentTime < start - 0.3) element.currentTime = start;
    };
    element.addEventListener("timeupdate", tick);
    const observer = new IntersectionObserver(([entry]) => {
      if (entry?.isIntersecting && autoplay && !calm.matches) play();
      else pause();
    }, { threshold: 0.4 });
    observer.observe(element);
    face.addEventListener("pointerenter", play);
    face.addEventListener("focus", play);
    return () => {
      observer.disconnect();
      element.removeEventListener("timeupdate", tick);
      face.removeEventListener("pointerenter", play);
      face.removeEventListener("focus", play);
    };
  }, [src, start, end]);

  return (
    <span class={`picture there ${missing ? "missing" : ""} ${name}`}>
      <video
        ref={video}
        src={loaded || autoplay ? src : undefined}
        poster={poster ?? undefined}
        preload="metadata"
        muted
        playsInline
        loop
        tabIndex={-1}
        aria-hidden="true"
        onLoadedMetadata={(event) => (event.currentTarget.currentTime = start)}
        onError={() => setMissing(!poster)}
      />
    </span>
  );
}
