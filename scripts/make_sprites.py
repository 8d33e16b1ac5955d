"""Cut the playground's sprites out of the npm package emoji-datasource-twitter.

    npm pack emoji-datasource-twitter@16.0.0 && tar xzf emoji-datasource-twitter-16.0.0.tgz
    python scripts/make_sprites.py package

Writes sprites.png (an RGBA atlas of 64-pixel tiles, row by row) and its index sprites.json into the package. The atlas
has only the graphics that are used. They are Twemoji, CC-BY 4.0: see playground/CREDITS.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from PIL import Image

# Name in captions → short name in emoji.json. The graphics were chosen by eye: they can be told apart at 30 pixels, and
# have everyday names of one or two words.
THINGS = {
    "monkey": "monkey", "gorilla": "gorilla", "dog": "dog2", "poodle": "poodle", "wolf": "wolf", "fox": "fox_face",
    "cat": "cat2", "lion": "lion_face", "tiger": "tiger2", "deer": "deer", "cow": "cow2", "pig": "pig2",
    "camel": "camel", "giraffe": "giraffe_face", "elephant": "elephant", "rhinoceros": "rhinoceros",
    "mouse": "mouse2", "hamster": "hamster", "rabbit": "rabbit2", "hedgehog": "hedgehog", "bat": "bat",
    "bear": "bear", "koala": "koala", "panda": "panda_face", "turkey": "turkey", "rooster": "rooster",
    "chick": "hatched_chick", "bird": "bird", "penguin": "penguin", "eagle": "eagle", "duck": "duck", "swan": "swan",
    "owl": "owl", "flamingo": "flamingo", "peacock": "peacock", "frog": "frog", "crocodile": "crocodile",
    "turtle": "turtle", "snake": "snake", "whale": "whale2", "shark": "shark", "octopus": "octopus", "crab": "crab",
    "snail": "snail", "butterfly": "butterfly", "caterpillar": "bug", "ant": "ant", "bee": "bee", "spider": "spider",
    "rose": "rose", "sunflower": "sunflower", "pine tree": "evergreen_tree", "palm tree": "palm_tree",
    "cactus": "cactus", "clover": "four_leaf_clover", "mushroom": "mushroom", "watermelon": "watermelon",
    "orange": "tangerine", "lemon": "lemon", "banana": "banana", "pineapple": "pineapple", "apple": "apple",
    "cherry": "cherries", "strawberry": "strawberry", "avocado": "avocado", "eggplant": "eggplant",
    "carrot": "carrot", "pepper": "hot_pepper", "broccoli": "broccoli", "croissant": "croissant",
    "pretzel": "pretzel", "pancake": "pancakes", "cheese": "cheese_wedge", "bacon strip": "bacon",
    "hamburger": "hamburger", "fries box": "fries", "pizza": "pizza", "hot dog": "hotdog", "egg": "fried_egg",
    "popcorn bag": "popcorn", "sushi": "sushi", "ice cream": "icecream", "cake": "birthday",
    "chocolate bar": "chocolate_bar",
    "candy": "candy", "lollipop": "lollipop", "coffee cup": "coffee", "wine glass": "wine_glass", "beer mug": "beer",
    "knife": "hocho", "volcano": "volcano", "hut": "hut", "house": "house", "hospital": "hospital",
    "factory": "factory", "fountain": "fountain", "tent": "tent", "ferris wheel": "ferris_wheel",
    "train": "steam_locomotive", "bus": "bus", "fire engine": "fire_engine", "police car": "police_car", "car": "car",
    "truck": "truck", "tractor": "tractor", "bicycle": "bike", "skateboard": "skateboard",
    "traffic light": "vertical_traffic_light", "anchor": "anchor", "ship": "ship", "airplane": "small_airplane",
    "helicopter": "helicopter", "rocket": "rocket", "flying saucer": "flying_saucer", "suitcase": "luggage",
    "hourglass": "hourglass", "moon": "crescent_moon", "tornado": "tornado", "rainbow": "rainbow",
    "umbrella": "umbrella", "lightning bolt": "zap", "snowman": "snowman_without_snow", "flame": "fire",
    "bison": "bison", "shirt": "shirt", "beaver": "beaver", "scarf": "scarf", "sock": "socks",
    "backpack": "school_satchel", "shoe": "athletic_shoe", "crown": "crown", "hat": "tophat", "diamond": "gem",
    "megaphone": "mega", "microphone": "microphone", "headset": "headphones", "radio": "radio", "guitar": "guitar",
    "violin": "violin", "drum": "drum_with_drumsticks", "phone": "iphone", "battery": "battery",
    "plug": "electric_plug", "laptop": "computer", "camera": "camera", "candle": "candle", "light bulb": "bulb",
    "lantern": "izakaya_lantern", "money bag": "moneybag", "mailbox": "mailbox", "pencil": "pencil2",
    "briefcase": "briefcase", "calendar": "date", "paperclip": "paperclip", "ruler": "straight_ruler", "lock": "lock",
    "key": "key", "hammer": "hammer", "axe": "axe", "bomb": "bomb", "bow": "bow_and_arrow", "shield": "shield",
    "saw": "carpentry_saw", "ladder": "ladder", "shovel": "shovel", "telescope": "telescope", "syringe": "syringe",
    "pill": "pill", "door": "door", "mirror": "mirror", "bed": "bed", "sofa": "couch_and_lamp", "chair": "chair",
    "toilet": "toilet", "broom": "broom", "basket": "basket", "bucket": "bucket", "toothbrush": "toothbrush",
    "shopping cart": "shopping_trolley", "pumpkin": "jack_o_lantern", "christmas tree": "christmas_tree",
    "balloon": "balloon", "gift": "gift", "medal": "sports_medal", "soccer ball": "soccer", "football": "football",
    "bowling ball": "bowling", "boxing glove": "boxing_glove", "ice skate": "ice_skate",
    "fishing rod": "fishing_pole_and_fish", "kite": "kite", "crystal ball": "crystal_ball",
    "magic wand": "magic_wand", "joystick": "joystick", "dice": "game_die", "puzzle piece": "jigsaw",
    "teddy bear": "teddy_bear", "doll": "nesting_dolls", "chess piece": "chess_pawn", "yarn ball": "yarn",
}  # fmt: skip
# Things that training never shows.
UNSEEN = {
    "raccoon": "raccoon", "horse": "racehorse", "zebra": "zebra_face", "sheep": "sheep", "kangaroo": "kangaroo",
    "parrot": "parrot", "dinosaur": "sauropod", "dolphin": "dolphin", "fish": "tropical_fish",
    "jellyfish": "jellyfish", "ladybug": "ladybug", "maple leaf": "maple_leaf", "grape": "grapes", "pear": "pear",
    "kiwi": "kiwifruit", "corn cob": "corn", "loaf": "bread", "taco": "taco", "doughnut": "doughnut",
    "cupcake": "cupcake", "teapot": "teapot", "vase": "amphora", "castle": "european_castle",
    "ambulance": "ambulance", "race car": "racing_car", "motorcycle": "racing_motorcycle", "sailboat": "boat",
    "parachute": "parachute", "alarm clock": "alarm_clock", "planet": "ringed_planet", "dress": "dress",
    "boot": "boot", "bell": "bell", "saxophone": "saxophone", "television": "tv", "book": "closed_book",
    "package": "package", "wrench": "wrench", "magnet": "magnet", "trophy": "trophy",
}  # fmt: skip
TILE, COLUMNS = 64, 16


def main(package: Path) -> None:
    """Make the atlas and its index from an unpacked npm package."""
    version = json.loads((package / "package.json").read_text())["version"]
    emoji = {entry["short_name"]: entry for entry in json.loads((package / "emoji.json").read_text())}
    target = Path(__file__).parents[1] / "src/openxclip/playground"
    everything = THINGS | UNSEEN
    atlas = Image.new("RGBA", (COLUMNS * TILE, -(-len(everything) // COLUMNS) * TILE))
    things = []
    for number, (name, short_name) in enumerate(everything.items()):
        entry = emoji[short_name]
        tile = Image.open(package / "img/twitter/64" / entry["image"]).convert("RGBA")
        atlas.paste(tile, (number % COLUMNS * TILE, number // COLUMNS * TILE))
        things.append({"name": name, "codepoints": entry["unified"], "unseen": name in UNSEEN})
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
