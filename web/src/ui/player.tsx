// The player. What the browser can't play is shown as a preview, whose making has a progress.

import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { type ApiError, addressOf, asApiError, errorOf, isAbort, sleep } from "../api";
import { clock } from "../format";
import { attach, failed, length, readLength, seek, settled, takePendingTime, time } from "../watch-state";
import type { SourceRef } from "../types";
import { Button, Failure, Progress } from "./bits";

export const playing = signal(false);

type Stream = { state: "asking" } | { state: "making"; share: number | null } | { state: "ready"; src: string } | { state: "failed"; error: ApiError };

/** Asks for the stream until its preview is there. */
export function useStream(ref: SourceRef): [Stream, () => void] {
  const [stream, setStream] = useState<Stream>({ state: "asking" });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    const { signal } = controller;
    const ask = async () => {
      setStream({ state: "asking" });
      failed.value = settled.value = false;
      const src = `${addressOf(ref)}/stream`;
      for (;;) {
        const response = await fetch(src, { headers: { Range: "bytes=0-0" }, signal, credentials: "same-origin" });
        if (response.status === 202) {
          const body = (await response.json()) as { progress: number | null };
          setStream({ state: "making", share: body.progress });
          settled.value = true;
          await sleep(0.7, signal);
        } else if (response.ok) {
          await response.body?.cancel();
          setStream({ state: "ready", src });
          settled.value = true;
          return;
        } else throw await errorOf(response);
      }
    };
    ask().catch((error: unknown) => {
      if (isAbort(error)) return;
      setStream({ state: "failed", error: asApiError(error) });
      settled.value = true;
      failed.value = asApiError(error).status === 422;
    });
    readLength(ref, signal).catch(() => {}); // the player says what is wrong
    return () => controller.abort();
  }, [ref.kind, ref.id, attempt]);
  return [stream, () => setAttempt(attempt + 1)];
}

export function toggle(video: HTMLVideoElement | null): void {
  if (!video) return;
  if (video.paused) void video.play().catch(() => {});
  else video.pause();
}

export function Player({ source, name }: { source: SourceRef; name: string }) {
  const [stream, retry] = useStream(source);
  const [muted, setMuted] = useState(true);
  const [broken, setBroken] = useState(false);
  const video = useRef<HTMLVideoElement>(null);
  const box = useRef<HTMLDivElement>(null);

  useEffect(() => {
    attach(video.current);
    setBroken(false);
    let frame = 0;
    const follow = () => {
      const player = video.current;
      if (player && !player.paused) time.value = player.currentTime;
      frame = requestAnimationFrame(follow);
    };
    if (stream.state === "ready") follow();
    return () => {
      cancelAnimationFrame(frame);
      attach(null);
    };
  }, [stream.state === "ready" ? stream.src : ""]);

  return (
    <div class="player" ref={box}>
      <div class="screen">
        {stream.state === "ready" && (
          <video
            ref={video}
            src={stream.src}
            aria-label={name}
            preload="auto"
            playsInline
            muted={muted}
            onClick={() => toggle(video.current)}
            onPlay={() => (playing.value = true)}
            onPause={() => (playing.value = false)}
            onError={() => setBroken(true)}
            onSeeked={(event) => (time.value = event.currentTarget.currentTime)}
            onLoadedMetadata={(event) => {
              const { duration } = event.currentTarget;
              if (Number.isFinite(duration)) length.value = duration;
              const target = takePendingTime();
              if (target) event.currentTarget.currentTime = target;
            }}
          />
        )}
        {stream.state === "making" && (
          <div class="screen-note">
            <Progress share={stream.share} text="Making a preview that this browser can play" now />
          </div>
        )}
        {stream.state === "asking" && <div class="screen-note"><Progress share={null} text="Opening the video" /></div>}
        {stream.state === "failed" && <div class="screen-note"><Failure error={stream.error} onRetry={retry} /></div>}
        {broken && (
          <div class="screen-note">
            <p>This browser can’t play the video. What is found in it is still shown below.</p>
          </div>
        )}
      </div>
      {!failed.value && <Controls video={video} muted={muted} onMute={() => setMuted(!muted)} onFull={() => {
        if (document.fullscreenElement) void document.exitFullscreen();
        else void box.current?.requestFullscreen?.();
      }} />}
    </div>
  );
}

function Controls({ video, muted, onMute, onFull }: {
  video: { current: HTMLVideoElement | null };
  muted: boolean;
  onMute: () => void;
  onFull: () => void;
}) {
  const [rate, setRate] = useState(1);
  const faster = () => {
    const next = rate === 1 ? 2 : rate === 2 ? 0.5 : 1;
    setRate(next);
    if (video.current) video.current.playbackRate = next;
  };
  return (
    <div class="controls">
      <Button kind="quiet" icon={playing.value ? "pause" : "play"} label={playing.value ? "Pause" : "Play"}
        onClick={() => toggle(video.current)} />
      <Clock />
      <input
        class="scrub"
        type="range"
        min={0}
        max={length.value || 1}
        step={0.01}
        value={time.value}
        aria-label="Position in the video"
        aria-valuetext={`${clock(time.value)} of ${clock(length.value)}`}
        onInput={(event) => seek(Number(event.currentTarget.value))}
      />
      <button type="button" class="button quiet edge" onClick={faster} aria-label={`Speed ${rate}, change`}>{rate}×</button>
      <Button kind="quiet" icon={muted ? "mute" : "sound"} label={muted ? "Sound on" : "Sound off"} onClick={onMute} />
      <Button kind="quiet" icon="full" label="Full screen" onClick={onFull} />
    </div>
  );
}

function Clock() {
  return (
    <span class="edge clock">
      <b>{clock(time.value)}</b> <span class="muted">/ {clock(length.value)}</span>
    </span>
  );
}
