// Small parts that every view uses.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ApiError } from "../api";
import { Icon, type IconName } from "./icons";

interface ButtonProps {
  children?: ComponentChildren;
  icon?: IconName;
  kind?: "primary" | "plain" | "quiet" | "danger";
  label?: string; // for buttons that are icons only
  onClick?: (event: MouseEvent) => void;
  disabled?: boolean;
  pressed?: boolean;
  submit?: boolean;
  class?: string;
  keyHint?: string;
}

export function Button({ children, icon, kind = "plain", label, onClick, disabled, pressed, submit, keyHint, ...rest }: ButtonProps) {
  return (
    <button
      type={submit ? "submit" : "button"}
      class={`button ${kind}${children ? "" : " only-icon"} ${rest.class ?? ""}`}
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      disabled={disabled}
      onClick={onClick}
    >
      {icon && <Icon name={icon} size={18} />}
      {children}
      {keyHint && <kbd aria-hidden="true">{keyHint}</kbd>}
    </button>
  );
}

/** A bar with words. Without a share, the work's length is unknown. It appears after half a second. */
export function Progress({ share, text, detail, onStop, now }: {
  share: number | null;
  text: string;
  detail?: string;
  onStop?: () => void;
  now?: boolean;
}) {
  return (
    <div class={`progress${now ? "" : " later"}`} role="status">
      <div class="progress-words">
        <span>{text}</span>
        {detail && <span class="edge muted">{detail}</span>}
        {onStop && <button type="button" class="link" onClick={onStop}>Stop</button>}
      </div>
      <div class={`track${share === null ? " unknown" : ""}`} role="progressbar" aria-label={text} aria-valuemin={0}
        aria-valuemax={100} aria-valuenow={share === null ? undefined : Math.round(share * 100)}>
        <i style={{ width: share === null ? "30%" : `${Math.min(1, share) * 100}%` }} />
      </div>
    </div>
  );
}

/** What went wrong, in the server's words, and what to do. */
export function Failure({ error, onRetry, onClose }: { error: ApiError; onRetry?: () => void; onClose?: () => void }) {
  return (
    <div class="failure" role="alert">
      <Icon name="warn" />
      <div>
        <p><Words text={error.message} /></p>
        {error.hint && <p class="muted"><Words text={error.hint} /></p>}
        <p class="edge muted">{error.code}</p>
      </div>
      <div class="failure-actions">
        {onRetry && <Button onClick={onRetry}>Try again</Button>}
        {onClose && <Button kind="quiet" icon="close" label="Close this message" onClick={onClose} />}
      </div>
    </div>
  );
}

/** A sentence of the server, whose `commands` are set as code. */
function Words({ text }: { text: string }) {
  return <>{text.split("`").map((part, at) => (at % 2 ? <code key={at}>{part}</code> : part))}</>;
}

/** A view with nothing to show: why, and what to do. */
export function Empty({ title, children, actions }: {
  title: string;
  children: ComponentChildren;
  actions?: ComponentChildren;
}) {
  return (
    <div class="empty">
      <Lanes />
      <h2>{title}</h2>
      <p>{children}</p>
      {actions && <div class="row">{actions}</div>}
    </div>
  );
}

/** A timeline that waits: the picture of every empty state. */
export function Lanes() {
  return (
    <div class="lanes" aria-hidden="true">
      <i /><i /><i /><i /><b />
    </div>
  );
}

/** A list that opens below a button and closes by Escape or a click elsewhere. */
export function Menu({ label, icon, children, kind = "plain", align = "start" }: {
  label: ComponentChildren;
  icon?: IconName;
  children: (close: () => void) => ComponentChildren;
  kind?: "plain" | "quiet";
  align?: "start" | "end";
}) {
  const [open, setOpen] = useState(false);
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    const leave = (event: Event) => {
      if (event instanceof KeyboardEvent) {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        button.current?.focus();
      } else if (root.current?.contains(event.target as Node)) return;
      setOpen(false);
    };
    addEventListener("pointerdown", leave);
    addEventListener("keydown", leave, true);
    return () => {
      removeEventListener("pointerdown", leave);
      removeEventListener("keydown", leave, true);
    };
  }, [open]);
  return (
    <div class={`menu ${align}`} ref={root}>
      <button type="button" ref={button} class={`button ${kind}`} aria-expanded={open} onClick={() => setOpen(!open)}>
        {icon && <Icon name={icon} size={18} />}
        {label}
      </button>
      {open && <div class="menu-panel">{children(() => setOpen(false))}</div>}
    </div>
  );
}

/** A dialog of the browser: it takes the focus, and gives it back when it closes. */
export function Modal({ title, onClose, children }: { title: string; onClose?: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    return () => dialog.current?.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-label={title}
      onCancel={(event) => {
        event.preventDefault();
        onClose?.();
      }}
      onClick={(event) => event.target === dialog.current && onClose?.()}
    >
      <div class="dialog-body">
        {onClose && <Button kind="quiet" icon="close" label="Close" class="dialog-close" onClick={onClose} />}
        {children}
      </div>
    </dialog>
  );
}
