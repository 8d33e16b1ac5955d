// Times, sizes and shares as text.

/** 75.3 → "1:15.3"; with `digits` 0 → "1:15". */
export function clock(seconds: number, digits = 1): string {
  const unit = 10 ** digits;
  const all = Math.max(0, Math.round(seconds * unit) / unit);
  const hours = Math.floor(all / 3600);
  const minutes = Math.floor((all % 3600) / 60);
  const rest = (all % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function percent(share: number | null | undefined): string {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 0.01) return "< 1 %";
  return `${Math.round(share * 100)} %`; // with narrow spaces that no line breaks at
}

export function bytes(size: number): string {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (size < 1000) return `${size < 10 && unit !== "B" ? size.toFixed(1) : Math.round(size)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

/** "about 3 min left" and the like. */
export function remaining(seconds: number): string {
  if (seconds < 5) return "a few seconds left";
  if (seconds < 90) return `about ${Math.round(seconds / 5) * 5} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  return `about ${(seconds / 3600).toFixed(1)} h left`;
}

export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

/** The name of a file, without its folders. */
export function baseName(path: string): string {
  return path.split("/").pop() || path;
}
