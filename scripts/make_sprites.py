"""Cut the playground's sprites out of the npm package emoji-datasource-twitter.

    npm pack emoji-datasource-twitter@16.0.0 && tar xzf emoji-datasource-twitter-16.0.0.tgz
    python scripts/make_sprites.py package

Writes sprites.png (an RGBA atlas of 64-pixel tiles, row by row) and sprites.json (what is in it) into the
package. Only the graphics that are used are kept. They are Twemoji, CC-BY 4.0: see playground/CREDITS.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

# Chosen by eye from contact sheets: told apart at 30 pixels, an everyday name of one or two words, and not the
# same after a quarter turn (so that spinning is visible). Name in captions → short name in emoji.json.
THINGS = {
    "cat": "cat2", "dog": "dog2", "cow": "cow2", "pig": "pig2", "rabbit": "rabbit2", "mouse": "mouse2",
    "elephant": "elephant", "giraffe": "giraffe_face", "lion": "lion_face", "panda": "panda_face",
    "fox": "fox_face", "frog": "frog", "monkey": "monkey", "whale": "whale2", "shark": "shark",
    "octopus": "octopus", "crab": "crab", "turtle": "turtle", "snake": "snake", "snail": "snail",
    "butterfly": "butterfly", "bee": "bee", "owl": "owl", "penguin": "penguin", "duck": "duck",
    "flamingo": "flamingo", "sunflower": "sunflower", "cactus": "cactus", "palm tree": "palm_tree",
    "mushroom": "mushroom", "apple": "apple", "banana": "banana", "lemon": "lemon", "strawberry": "strawberry",
    "watermelon": "watermelon", "avocado": "avocado", "carrot": "carrot", "hamburger": "hamburger",
    "pizza": "pizza", "cake": "birthday", "car": "car", "bus": "bus", "tractor": "tractor", "bicycle": "bike",
    "train": "steam_locomotive", "airplane": "airplane", "helicopter": "helicopter", "rocket": "rocket",
    "house": "house", "rainbow": "rainbow", "snowman": "snowman", "umbrella": "umbrella", "kite": "kite",
    "balloon": "balloon", "gift": "gift", "trophy": "trophy", "crown": "crown", "guitar": "guitar",
    "key": "key", "hammer": "hammer", "candle": "candle", "camera": "camera", "pencil": "pencil2",
    "shirt": "shirt",
}  # fmt: skip
TILE, COLUMNS = 64, 8


def main(package: Path) -> None:
    """Build atlas and index from an unpacked npm package."""
    version = json.loads((package / "package.json").read_text())["version"]
    emoji = {entry["short_name"]: entry for entry in json.loads((package / "emoji.json").read_text())}
    target = Path(__file__).parents[1] / "src/openxclip/playground"
    atlas = Image.new("RGBA", (COLUMNS * TILE, -(-len(THINGS) // COLUMNS) * TILE))
    things = []
    for number, (name, short_name) in enumerate(THINGS.items()):
        entry = emoji[short_name]
        tile = Image.open(package / "img/twitter/64" / entry["image"]).convert("RGBA")
        atlas.paste(tile, (number % COLUMNS * TILE, number // COLUMNS * TILE))
        things.append({"name": name, "codepoints": entry["unified"]})
    atlas.save(target / "sprites.png", optimize=True)
    index = {
        "source": f"emoji-datasource-twitter {version} (npm), img/twitter/64",
        "credit": "Twemoji graphics, copyright Twitter, Inc and other contributors, CC-BY 4.0",
        "tile": TILE,
        "columns": COLUMNS,
        "things": things,
    }
    (target / "sprites.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
