// Icons of the page: strokes of 1.6 on a grid of 20, drawn for it.

const PATHS = {
  watch: "M3 5.5h14v9H3zM8.5 8v4l3.2-2z",
  search: "M9 3.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 0 1 0-11zM13.2 13.2 17 17",
  library: "M3 4h6v5H3zM11 4h6v5h-6zM3 11h6v5H3zM11 11h6v5h-6z",
  teach: "M3 14.5V17h2.5L16 6.5 13.5 4zM11.5 6 14 8.5M12 17h5",
  play: "M6 4.2v11.6L16 10z",
  pause: "M6 4v12M14 4v12",
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  close: "M5 5l10 10M15 5 5 15",
  check: "M4 10.5 8 14.5 16 5.5",
  upload: "M10 13V4M6 7.5 10 3.5l4 4M3.5 13v3.5h13V13",
  more: "M3 5h5v4H3zM12 5h5v4h-5zM3 12h5v4H3zM14.5 11.5v5M12 14h5",
  undo: "M7 4 3.5 7.5 7 11M3.5 7.5H12a4 4 0 0 1 0 8H8",
  skip: "M4 10h11M11 5.5 15.5 10 11 14.5",
  sound: "M3 8v4h3l4 3.5v-11L6 8zM13 7.5a3.5 3.5 0 0 1 0 5M15 5.5a6.4 6.4 0 0 1 0 9",
  mute: "M3 8v4h3l4 3.5v-11L6 8zM13 8l4 4M17 8l-4 4",
  full: "M3.5 7.5v-4h4M12.5 3.5h4v4M16.5 12.5v4h-4M7.5 16.5h-4v-4",
  folder: "M2.5 5h5l1.5 2h8.5v8.5h-15z",
  keep: "M5 3.5h10v13l-5-3.6-5 3.6z",
  trash: "M4 6h12M8 6V4h4v2M5.5 6l.8 10.5h7.4L14.5 6",
  light: "M10 6.5a3.5 3.5 0 1 1 0 7a3.5 3.5 0 0 1 0-7zM10 2v2M10 16v2M2 10h2M16 10h2M4.4 4.4l1.4 1.4M14.2 14.2l1.4 1.4M4.4 15.6l1.4-1.4M14.2 5.8l1.4-1.4",
  dark: "M16 12A6.5 6.5 0 0 1 8 4a6.5 6.5 0 1 0 8 8z",
  system: "M3 4.5h14v9H3zM7 16.5h6M10 13.5v3",
  help: "M10 2.8a7.2 7.2 0 1 1 0 14.4a7.2 7.2 0 0 1 0-14.4zM7.9 8a2.1 2.1 0 1 1 3 1.9c-.6.3-.9.7-.9 1.4M10 13.6v.2",
  warn: "M10 3.5 17.5 16.5h-15zM10 8.5v3.8M10 14.4v.2",
  list: "M3 5.5h14M3 10h14M3 14.5h9",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  const filled = name === "play";
  return (
    <svg class="icon" viewBox="0 0 20 20" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={PATHS[name]} fill={filled ? "currentColor" : "none"} stroke="currentColor" stroke-width="1.6"
        stroke-linecap="round" stroke-linejoin="round" />
    </svg>
  );
}

/** Three lanes and the mark that runs over them. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <svg class="logo" viewBox="0 0 32 32" width={size} height={size} aria-hidden="true" focusable="false">
      <g class="logo-lanes">
        <rect x="2" y="7" width="12" height="5" rx="2.5" />
        <rect x="8" y="14" width="22" height="5" rx="2.5" />
        <rect x="4" y="21" width="11" height="5" rx="2.5" />
      </g>
      <rect class="logo-mark" x="18.5" y="2" width="3.4" height="28" rx="1.7" />
    </svg>
  );
}
