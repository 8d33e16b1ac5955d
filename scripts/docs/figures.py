"""Draw the figures of docs/what-is-xclip.md as SVG files in docs/images/.

    python scripts/docs/figures.py

A test compares the committed files with what this script draws.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
INK, GREY, PAPER = "#1f2430", "#6b7280", "#ffffff"
CLASS, PATCH, MESSAGE, TEXT, VIDEO = "#f2b134", "#c9d8ee", "#e4572e", "#7fb685", "#5b7db1"


class Figure:
    """An SVG picture on a white card, so that it can be read in light and in dark mode.

    Args:
        title: what the picture shows, for people who can't see it.
        width, height: size in pixels.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'role="img" font-family="system-ui, sans-serif" font-size="14" fill="{INK}">',
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0L8 4L0 8z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="10" fill="{PAPER}"/>',
        ]

    def box(self, x: float, y: float, width: float, height: float, label: str = "", fill: str = PAPER) -> None:
        """Draw a box with a label; a line end in the label starts a new line."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="{INK}"/>'
        )
        lines = label.split("\n")
        for i, line in enumerate(lines):
            self.text(x + width / 2, y + height / 2 + 5 + 18 * (i - (len(lines) - 1) / 2), line, anchor="middle")

    def text(
        self, x: float, y: float, label: str, *, anchor: str = "start", color: str = INK, bold: bool = False
    ) -> None:
        """Write a label."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{color}"{weight}>{escape(label)}</text>')

    def arrow(self, *points: tuple[float, float], color: str = INK, dashed: bool = False) -> None:
        """Draw an arrow along points."""
        path = "M" + "L".join(f"{x} {y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.5"{dashes} marker-end="url(#tip)"/>'
        )

    def tokens(self, x: float, y: float, fills: list[str], *, size: float = 22) -> None:
        """Draw a row of tokens."""
        for i, fill in enumerate(fills):
            self.parts.append(
                f'<rect x="{x + i * (size + 4)}" y="{y}" width="{size}" height="{size}" rx="4" fill="{fill}" '
                f'stroke="{INK}"/>'
            )

    def svg(self) -> str:
        """Return the file's content."""
        return "\n".join([*self.parts, "</svg>"]) + "\n"


def overview() -> Figure:
    """The way from frames and texts to scores."""
    figure = Figure("X-CLIP: from the frames of a video and from texts to scores", 900, 330)
    for i in range(4):
        figure.box(20 + 8 * i, 40 + 8 * i, 90, 62, "frames" if i == 3 else "", "#eef2f7")
    figure.arrow((138, 92), (170, 92))
    figure.box(172, 50, 180, 84, "cross-frame\ntransformer\n(12 or 24 blocks)", PATCH)
    figure.arrow((352, 75), (468, 75))
    figure.text(360, 66, "frame features", color=GREY)
    figure.box(470, 50, 130, 50, "MIT: order\nof the frames", VIDEO)
    figure.arrow((600, 75), (716, 75))
    figure.text(608, 66, "video feature", color=GREY)
    figure.box(20, 226, 130, 50, "“a cat runs”\n“a dog bounces”", "#eef2f7")
    figure.arrow((150, 251), (170, 251))
    figure.box(172, 226, 180, 50, "CLIP's text\ntransformer", TEXT)
    figure.arrow((352, 251), (468, 251))
    figure.text(360, 242, "text features", color=GREY)
    figure.box(470, 226, 130, 50, "prompt\ngenerator", TEXT)
    figure.arrow((262, 134), (262, 170), (535, 170), (535, 224))
    figure.text(276, 162, "patch tokens, averaged over frames", color=GREY)
    figure.arrow((600, 251), (680, 251))
    figure.text(608, 242, "prompts", color=GREY)
    figure.arrow((410, 251), (410, 302), (692, 302), (692, 265))
    figure.parts.append(f'<circle cx="692" cy="251" r="12" fill="{PAPER}" stroke="{INK}"/>')
    figure.text(692, 256, "+", anchor="middle")
    figure.arrow((704, 251), (798, 251), (798, 148))
    figure.text(712, 242, "texts for", color=GREY)
    figure.text(712, 272, "this video", color=GREY)
    figure.box(718, 50, 160, 96, "cosine × scale\n= a score for each\ntext and video", "#f4e3b5")
    return figure


def block() -> Figure:
    """One block of the cross-frame transformer."""
    figure = Figure("One block of the cross-frame transformer, for a video of three frames", 900, 430)
    figure.text(20, 34, "1  message", bold=True)
    figure.text(20, 54, "A linear layer makes a message token", color=GREY)
    figure.text(20, 72, "from each frame's class token.", color=GREY)
    figure.text(20, 154, "2  cross-frame attention", bold=True)
    figure.text(20, 174, "The messages of all frames attend", color=GREY)
    figure.text(20, 192, "to each other.", color=GREY)
    figure.text(20, 264, "3  attention within a frame", bold=True)
    figure.text(20, 284, "Each frame attends to its own tokens", color=GREY)
    figure.text(20, 302, "and its message, then drops it.", color=GREY)
    figure.text(20, 374, "4  MLP", bold=True)
    figure.text(20, 394, "On every token.", color=GREY)
    for i in range(3):
        x = 310 + 195 * i
        figure.text(x + 62, 30, f"frame {i + 1}", anchor="middle", color=GREY)
        figure.tokens(x, 40, [CLASS, PATCH, PATCH, PATCH, PATCH])
        figure.arrow((x + 11, 62), (x + 11, 106))
        figure.tokens(x, 108, [MESSAGE])
        figure.arrow((x + 11, 130), (x + 11, 148))
        figure.arrow((x + 11, 192), (x + 11, 218))
        figure.tokens(x, 220, [CLASS, PATCH, PATCH, PATCH, PATCH, MESSAGE])
        figure.arrow((x + 76, 62), (x + 76, 218), dashed=True, color=GREY)
        figure.arrow((x + 74, 242), (x + 74, 262))
        figure.box(x - 4, 264, 162, 40, "attention", PATCH)
        figure.arrow((x + 74, 304), (x + 74, 352))
        figure.tokens(x, 322, [])
        figure.box(x - 4, 354, 162, 32, "MLP", "#eef2f7")
        figure.arrow((x + 74, 386), (x + 74, 412))
    figure.parts.append(f'<rect x="300" y="150" width="428" height="40" rx="6" fill="{MESSAGE}" opacity="0.85"/>')
    figure.text(514, 175, "attention over the frames' messages", anchor="middle", color="#ffffff", bold=True)
    figure.tokens(20, 98, [CLASS])
    figure.text(48, 114, "class")
    figure.tokens(94, 98, [PATCH])
    figure.text(122, 114, "patch")
    figure.tokens(172, 98, [MESSAGE])
    figure.text(200, 114, "message")
    return figure


def integration() -> Figure:
    """MIT, which turns a vector for each frame into one for the video."""
    figure = Figure("The multi-frame integration transformer (MIT)", 900, 200)
    figure.text(20, 36, "frame vectors", color=GREY)
    figure.tokens(20, 50, [VIDEO] * 4, size=30)
    figure.arrow((160, 65), (196, 65))
    figure.box(198, 40, 150, 50, "+ a learned position\nfor each frame", "#eef2f7")
    figure.arrow((348, 65), (390, 65))
    figure.box(392, 40, 170, 50, "transformer block\nover the frames", PATCH)
    figure.arrow((562, 65), (610, 65))
    figure.parts.append(f'<circle cx="624" cy="65" r="12" fill="{PAPER}" stroke="{INK}"/>')
    figure.text(624, 70, "+", anchor="middle")
    figure.arrow((178, 65), (178, 140), (624, 140), (624, 79))
    figure.text(300, 160, "the frame vectors without positions (residual)", color=GREY)
    figure.arrow((636, 65), (676, 65))
    figure.box(678, 40, 110, 50, "mean over\nthe frames", "#eef2f7")
    figure.arrow((788, 65), (826, 65))
    figure.tokens(830, 50, [VIDEO], size=30)
    figure.text(845, 104, "video", anchor="middle", color=GREY)
    return figure


def prompting() -> Figure:
    """The prompt generator, which adapts each text to each video."""
    figure = Figure("Video-specific prompting: each text attends to the patches of the video", 900, 230)
    figure.text(20, 40, "texts", color=GREY)
    figure.tokens(20, 52, [TEXT] * 3, size=28)
    figure.text(20, 150, "patches of the video,", color=GREY)
    figure.text(20, 168, "averaged over frames", color=GREY)
    figure.tokens(20, 180, [PATCH] * 6, size=28)
    figure.arrow((122, 66), (238, 66))
    figure.text(150, 56, "queries", color=GREY)
    figure.arrow((214, 194), (330, 194), (330, 96))
    figure.text(222, 186, "keys, values", color=GREY)
    figure.box(240, 40, 180, 54, "cross-attention", PATCH)
    figure.arrow((420, 66), (456, 66))
    figure.box(458, 40, 110, 54, "MLP", "#eef2f7")
    figure.text(404, 118, "2 layers", anchor="middle", color=GREY)
    figure.arrow((568, 66), (606, 66))
    figure.box(608, 40, 90, 54, "× α", "#f4e3b5")
    figure.arrow((698, 66), (748, 66))
    figure.text(706, 56, "prompt", color=GREY)
    figure.parts.append(f'<circle cx="762" cy="66" r="12" fill="{PAPER}" stroke="{INK}"/>')
    figure.text(762, 71, "+", anchor="middle")
    figure.arrow((71, 52), (71, 20), (762, 20), (762, 52))
    figure.text(440, 15, "the texts themselves", anchor="middle", color=GREY)
    figure.arrow((774, 66), (806, 66))
    figure.tokens(808, 58, [TEXT] * 3, size=18)
    figure.text(838, 104, "texts for", anchor="middle", color=GREY)
    figure.text(838, 122, "this video", anchor="middle", color=GREY)
    return figure


FIGURES = {"xclip": overview, "cross-frame-block": block, "mit": integration, "prompting": prompting}


def main() -> None:
    """Write the figures."""
    for name, draw in FIGURES.items():
        (IMAGES / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
