"""What a scene shows, in words; never who is in it.

A caption is put together from parts (style, place, expression, clothes, light, dyed hair), each said in one of several
ways, in one of several orders, and some left out, as people write prompts. Words are of the letters a … z, so that a
tokenizer of whole words can be built from `vocabulary()`.
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from training.face_world.chance import uniform
from training.face_world.scene import (
    ACCESSORIES,
    BACKGROUNDS,
    CLOTHES,
    COLOUR_NAMES,
    DYE_NAMES,
    EXPRESSIONS,
    STYLES,
    Scenes,
)

WORD = re.compile(r"[a-z]+|,")

WHO = ("a person", "someone", "one person", "a portrait of a person")
STYLE_WORDS: dict[str, tuple[str, ...]] = {
    "photo": ("a photo", "a photograph", "a portrait photo", "a colour photo", "a photographic portrait"),
    "watercolour": ("a watercolour", "a watercolor painting", "a watercolour painting", "a loose watercolour"),
    "ink": ("an ink drawing", "a drawing in black ink", "a pen and ink drawing", "an ink sketch"),
    "comic": ("a comic", "a comic book panel", "a comic drawing", "a cartoon with bold outlines"),
    "neon": ("a neon picture", "a neon portrait", "a picture in neon lines", "a glowing neon sign"),
    "film noir": ("a film noir still", "a film noir picture", "a black and white film noir scene"),
    "pencil": ("a pencil sketch", "a pencil drawing", "a graphite drawing", "a sketch in pencil"),
    "pixel art": ("pixel art", "a pixel art picture", "a pixel art portrait", "a picture in pixels"),
    "oil painting": ("an oil painting", "a painting in oil", "an oil portrait", "a thick oil painting"),
    "old photograph": ("an old photograph", "a sepia photograph", "an old sepia photo", "a vintage photograph"),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "studio": ("in a studio", "in front of a plain wall", "on a plain background"),
    "beach": ("on a beach", "at the beach", "on the sand by the ocean"),
    "forest": ("in a forest", "in the woods", "among trees"),
    "city": ("in a city at night", "in front of city lights", "in a town at night"),
    "snow": ("in the snow", "on a snowy day", "in a snowy landscape"),
    "desert": ("in a desert", "in the desert", "among sand dunes"),
    "library": ("in a library", "in front of books", "before shelves of books"),
    "space": ("in space", "among the stars", "in outer space"),
    "garden": ("in a garden", "among flowers", "in a garden of flowers"),
    "rain": ("in the rain", "on a rainy day", "in a rainy street"),
    "mountains": ("in the mountains", "before high mountains", "in front of mountains"),
    "underwater": ("under water", "underwater", "at the bottom of the sea"),
}
LOOK_WORDS: dict[str, tuple[str, ...]] = {
    "neutral": ("with a neutral face", "looking calm", "with a calm expression"),
    "smiling": ("smiling", "with a smile", "with a happy smile"),
    "laughing": ("laughing", "laughing out loud", "with a big laugh"),
    "surprised": ("surprised", "looking surprised", "with a surprised face"),
    "sad": ("sad", "looking sad", "with a sad expression"),
    "angry": ("angry", "looking angry", "with an angry face"),
    "winking": ("winking", "with a wink", "winking with one eye"),
}
CLOTHES_WORDS: dict[str, tuple[str, ...]] = {
    "t-shirt": ("a {colour} tee", "a {colour} tee shirt"),
    "striped shirt": ("a {colour} striped shirt", "a striped shirt in {colour}"),
    "turtleneck": ("a {colour} turtleneck", "a {colour} roll neck"),
    "hoodie": ("a {colour} hoodie", "a {colour} hooded top"),
    "suit": ("a {colour} suit", "a {colour} suit and tie"),
    "v-neck jumper": ("a {colour} jumper", "a {colour} pullover"),
    "denim jacket": ("a {colour} jacket", "a {colour} denim jacket"),
}
ACCESSORY_WORDS: dict[str, tuple[str, ...]] = {
    "nothing": ("",),
    "beanie": ("a {colour} beanie", "a {colour} wool hat"),
    "straw hat": ("a straw hat with a {colour} ribbon", "a straw hat with a {colour} band"),
    "flower crown": ("a crown of {colour} flowers", "{colour} flowers on the head"),
    "headphones": ("{colour} headphones", "big {colour} headphones"),
    "scarf": ("a {colour} scarf", "a warm {colour} scarf"),
}
WEARING = ("wearing", "dressed in", "in")
HAIR_WORDS = ("with {colour} hair", "with hair dyed {colour}", "{colour} hair")
LIGHT_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("",),
    "soft": ("in soft light", "soft light", "gentle light"),
    "warm": ("in warm light", "golden light", "warm evening light"),
    "cool": ("in cool light", "blue light", "cold light"),
    "left": ("lit from the left", "light from the left"),
    "right": ("lit from the right", "light from the right"),
    "above": ("lit from above", "light from above"),
}
# Groups are set between commas, parts and words within a group between spaces.
ORDERS = (
    "style of who look place / hair / wear / light",
    "style of who / look / wear / hair / place / light",
    "who place / look / hair / wear / style / light",
    "who look / wear / place / light / style",
    "style / who wear place / hair / look / light",
    "place / who hair / look / wear / style / light",
)
KEPT = {"style": 0.92, "place": 0.90, "look": 0.85, "hair": 0.95, "clothes": 0.72, "accessory": 0.90, "light": 0.60}
STRONG_LIGHT, SOFT_LIGHT, CLEAR_WARMTH = 0.75, 0.35, 0.45


def captions(scenes: Scenes, seed: int = 0) -> list[str]:
    """A caption for each of b scenes, of lower-case words and commas; another seed words them differently."""
    scenes = scenes.to("cpu")
    chance = uniform(scenes.texture, seed, "captions", 2 * len(KEPT) + 4)
    lights = lights_of(scenes)
    return [_caption(scenes, row, lights[row], chance[row].tolist()) for row in range(len(scenes))]


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, and the comma, sorted."""
    tables = (STYLE_WORDS, PLACE_WORDS, LOOK_WORDS, CLOTHES_WORDS, ACCESSORY_WORDS, LIGHT_WORDS)
    phrases = [phrase for table in tables for ways in table.values() for phrase in ways]
    phrases += [*WHO, *WEARING, *HAIR_WORDS, *COLOUR_NAMES, *DYE_NAMES[1:], "of", "and", "an", ","]
    words = {word for phrase in phrases for word in WORD.findall(phrase.replace("{colour}", ""))}
    return tuple(sorted(words))


def lights_of(scenes: Scenes) -> list[str]:
    """The word for each scene's light, a key of `LIGHT_WORDS`: its side where it is strong, else its colour."""
    strong = scenes.light_strength > STRONG_LIGHT
    aside = scenes.light_angle.cos()
    cases: list[tuple[str, Tensor]] = [
        ("left", strong & (aside < -math.cos(math.pi / 3))),
        ("right", strong & (aside > math.cos(math.pi / 3))),
        ("above", strong),
        ("warm", scenes.warmth > CLEAR_WARMTH),
        ("cool", scenes.warmth < -CLEAR_WARMTH),
        ("soft", scenes.light_strength < SOFT_LIGHT),
        ("plain", torch.ones_like(strong)),
    ]
    first = torch.stack([holds for _, holds in cases]).int().argmax(0)
    return [cases[case][0] for case in first.tolist()]


def _caption(scenes: Scenes, row: int, light: str, chance: list[float]) -> str:
    numbers = iter(chance)

    def said(ways: tuple[str, ...]) -> str:
        return ways[int(next(numbers) * len(ways))]

    def index(name: str) -> int:
        return int(getattr(scenes, name)[row])

    dyed = index("hair_dye")
    parts = {
        "style": said(STYLE_WORDS[STYLES[index("style")]]),
        "place": said(PLACE_WORDS[BACKGROUNDS[index("background")]]),
        "look": said(LOOK_WORDS[EXPRESSIONS[index("expression")]]),
        "hair": said(HAIR_WORDS).format(colour=DYE_NAMES[dyed]),
        "clothes": said(CLOTHES_WORDS[CLOTHES[index("clothes")]]).format(colour=COLOUR_NAMES[index("clothes_colour")]),
        "accessory": said(ACCESSORY_WORDS[ACCESSORIES[index("accessory")]]).format(
            colour=COLOUR_NAMES[index("accessory_colour")]
        ),
        "light": said(LIGHT_WORDS[light]),
    }
    if not dyed:
        parts["hair"] = ""
    parts = {name: part if next(numbers) < KEPT[name] else "" for name, part in parts.items()}
    worn = [part for part in (parts["clothes"], parts["accessory"]) if part]
    parts["wear"] = f"{said(WEARING)} {' and '.join(worn)}" if worn else ""
    parts["who"] = said(WHO)
    parts["of"] = "of" if parts["style"] else ""
    groups = (" ".join(filter(None, map(parts.__getitem__, group.split()))) for group in said(ORDERS).split(" / "))
    text = ", ".join(filter(None, groups))
    return re.sub(r"\ba (?=[aeiou])", "an ", text)
