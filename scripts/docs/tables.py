"""Write the tables of figures in README and docs/ from the JSON of benchmarks/ and the list of released checkpoints.

    python scripts/docs/tables.py            # rewrite the tables
    python scripts/docs/tables.py --check    # exit with 1 if one isn't current

A table stands between `<!-- table NAME -->` and `<!-- end of table -->`. NAME is a key of `TABLES`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLACE = re.compile(r"(?<=<!-- table )([\w-]+)( -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


def read(name: str) -> Any:
    """Return the content of a JSON file of benchmarks/."""
    return json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))


def table(head: Iterable[str], rows: Iterable[Iterable[str]], conditions: str) -> str:
    """Return a Markdown table with a line about its conditions. All columns but the first are aligned right."""
    columns = [column for column in zip(head, *rows, strict=True) if any(column[1:])]  # without empty ones
    head, *rows = zip(*columns, strict=True)
    lines = ["", "| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", conditions, ""])


def amount(value: float | None, unit: str = "s") -> str:
    """Return a measured value with its unit; seconds below 0.1 are milliseconds."""
    if value is None:
        return ""
    if unit == "s" and value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if unit == "s" else f"{value:,.0f} {unit}"


def share(value: float | None) -> str:
    """Return a ratio."""
    return "" if value is None else f"{value:.2f}"


def conditions(record: dict[str, Any], rest: str = "") -> str:
    """Return the line below a table."""
    versions = record.get("versions", record)
    parts = [record["cpu"], *([f"{record['threads']} threads"] if "threads" in record else [])]
    for name, key in (("PyTorch", "torch"), ("transformers", "transformers")):
        if isinstance(versions.get(key), str):
            parts.append(f"{name} {versions[key]}")
    return ", ".join(parts) + (f"; {record['date']}" if "date" in record else "") + f". {rest}".rstrip()


def bench(*beginnings: str, rest: str = "") -> str:
    """Return the rows of `openxclip bench` whose names begin so."""
    record = read("bench")
    rows = [row for row in record["rows"] if row["what"].removeprefix("base-patch32 ").startswith(beginnings)]
    return table(
        ["", "openxclip", "transformers, as documented", "ratio", "transformers, tuned", "ratio"],
        [
            [row["what"].removeprefix("base-patch32 "), amount(row["openxclip"], row["unit"]),
             amount(row["documented"], row["unit"]), share(row["documented_ratio"]),
             amount(row["tuned"], row["unit"]), share(row["tuned_ratio"])]
            for row in rows
        ],
        conditions(record, rest),
    )  # fmt: skip


def decoding() -> str:
    """Return the times of reading 8 frames of a clip of 10 s."""
    record = read("decoding")
    return table(
        ["8 frames of 10 s", "openxclip", "transformers", "ratio", "torchcodec", "ratio"],
        [
            [f"{row['clip']}, {row['frames']}", f"{row['openxclip_ms']:.0f} ms", f"{row['transformers_ms']:.0f} ms",
             share(row["openxclip_ms"] / row["transformers_ms"]), f"{row['torchcodec_ms']:.0f} ms",
             share(row["openxclip_ms"] / row["torchcodec_ms"])]
            for row in record["results"]
        ],
        conditions(record),
    )  # fmt: skip


def processor() -> str:
    """Return the times of turning frames into pixel values."""
    record = read("processor")
    return table(
        ["frames", "openxclip", "transformers", "ratio"],
        [
            [row["frames"].replace("x", "×"), f"{row['openxclip_ms']:.1f} ms", f"{row['transformers_ms']:.1f} ms",
             share(row["openxclip_ms"] / row["transformers_ms"])]
            for row in record["results"]
        ],
        conditions(record),
    )  # fmt: skip


def dropin() -> str:
    """Return the costs of importing and loading."""
    record = read("dropin")
    return table(
        ["", "openxclip", "compared with", "", "ratio"],
        [
            [row["what"], amount(row["openxclip"], row["unit"]), row["of"], amount(row["peer"], row["unit"]),
             share(row["ratio"])]
            for row in record["rows"]
        ],
        conditions(record),
    )  # fmt: skip


def training() -> str:
    """Return the speed of a whole training."""
    record = read("training")
    return table(
        ["", "clips per second", "waiting for data"],
        [
            [name, f"{record[name]['clips_per_second']:.2f}", f"{100 * record[name]['waited']:.1f} %"]
            for name in ("openxclip", "transformers")
        ],
        conditions(record, "The transformers model runs in openxclip's training loop."),
    )  # fmt: skip


def checkpoints() -> str:
    """Return the released checkpoints with their published accuracies and their costs."""
    from openxclip import profile
    from openxclip.checkpoints import RELEASED

    rows = []
    for model in RELEASED:
        cost = profile(model.name).video
        name = model.name.removeprefix("microsoft/xclip-")
        data = model.trained_on.removeprefix("openxclip's rendered ").replace(" a class", " per class")
        accuracy = ", ".join(f"{name} {value:.1f}" for name, value in model.accuracy.items())
        rows.append([
            f"`{name}`", f"{model.parameters / 1e6:.0f} M", f"{model.frames} × {model.resolution}",
            f"{cost.macs / 1e9:,.0f} G", f"{cost.activation_bytes['float32'] / 1e6:,.0f} MB", data,
            accuracy.replace("top1 ", "").replace(", top5 ", " / "),
        ])  # fmt: skip
    return table(
        ["`microsoft/xclip-…`", "size", "clip", "multiply-adds", "memory", "trained on", "published accuracy, %"],
        rows,
        "`mini` has no prefix. Size: parameters. Clip: frames × pixels. Multiply-adds, and memory of activations in "
        "float32: `openxclip profile`, for one clip and 400 texts, without the text tower. Accuracy: `openxclip "
        "models`, as in the paper. Kinetics: top-1 / top-5, 4 clips × 3 crops. Few-shot: top-1, 1 clip, split 1. "
        "Zero-shot: top-1, 1 clip.",
    )


TABLES: dict[str, Callable[[], str]] = {
    "video": lambda: bench("video"),
    "texts": lambda: bench("400 class names", "next video", "prompts", "forward"),
    "next-video": lambda: bench("next video", rest="base-patch32, random weights."),
    "training-step": lambda: bench("training step"),
    "decode": lambda: bench("decode"),
    "processes": lambda: bench("openxclip --help", "first result", "classify", "peak RSS"),
    "decoding": decoding,
    "processor": processor,
    "dropin": dropin,
    "training": training,
    "checkpoints": checkpoints,
}


def with_tables(text: str) -> str:
    """Return the text of a page with its tables made anew.

    Raises:
        KeyError: a page asks for a table that isn't in `TABLES`.
    """
    return PLACE.sub(lambda match: match[1] + match[2] + TABLES[match[1]]() + "\n", text)


def main() -> int:
    """Rewrite or check the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a table isn't current")
    check = parser.parse_args().check
    old = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = page.read_text(encoding="utf-8")
        current = with_tables(text)
        if current != text:
            old += 1
            print(f"{page.relative_to(ROOT)}: {'not current' if check else 'written'}")
            if not check:
                page.write_text(current, encoding="utf-8")
    return int(check and old > 0)


if __name__ == "__main__":
    sys.exit(main())
