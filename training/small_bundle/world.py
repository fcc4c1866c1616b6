"""What the small bundle is trained on: drawn people, each in several pictures, and what may be said of the pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from instantid.styles import DEFAULT_NEGATIVE_PROMPT, STYLES
from training.face_world import Rendering, Scenes, captions, people, render, scenes, seeds, vocabulary
from training.face_world.chance import uniform
from training.face_world.scene import LEAST_SCALE, MARGIN, MOST_SCALE
from training.face_world.scene import STYLES as DRAWN_STYLES

PICTURES_EACH = 4  # of a person; the first one is a portrait
LEAST_FACE = 0.48  # of the picture's height: smaller ones are a few latents wide, too few to draw a likeness
PORTRAIT_SCALE, PORTRAIT_ASIDE = 0.5, 0.1  # smallest face of a portrait, and how far from the middle it may be

# Style of the face world -> the entry of the app's list of styles whose words ask for it.
APP_STYLES = {
    "photo": "photo",
    "watercolour": "watercolor",
    "ink": "ink",
    "comic": "comic",
    "neon": "neon",
    "film noir": "film_noir",
    "oil painting": "oil",
}
IN_APP_WORDS = 0.12  # share of the pictures of such a style whose prompt is the app's
WITH_STRANGERS = 0.06  # share of prompts with words that mean nothing here, as people's prompts have
MOST_STRANGERS = 4
STRANGE_WORDS = sorted(set(re.findall("[a-z]+", DEFAULT_NEGATIVE_PROMPT)) - set(vocabulary()))


@dataclass(frozen=True)
class Drawn:
    """b pictures, on a device."""

    rendering: Rendering
    scenes: Scenes  # on the processor


def drawn(
    numbers: Tensor, side: int, seed: int, device: torch.device | str, people_seed: int = seeds.BUNDLE_PEOPLE
) -> Drawn:
    """Pictures `numbers` (b,) of the scenes of `seed`: of each person `PICTURES_EACH` in a row, a portrait first."""
    persons = people(numbers // PICTURES_EACH, people_seed)
    shown = as_portraits(nearer(scenes(numbers, seed)), numbers % PICTURES_EACH == 0)
    return Drawn(render(persons.to(device), shown.to(device), side), shown)


def nearer(shown: Scenes) -> Scenes:
    """The scenes with faces of `LEAST_FACE` to the world's largest, whole in the picture."""
    scale = LEAST_FACE + (shown.scale - LEAST_SCALE) * (MOST_SCALE - LEAST_FACE) / (MOST_SCALE - LEAST_SCALE)
    room = (0.5 - scale / 2 - MARGIN).clamp(min=0)[:, None]
    return replace(shown, scale=scale, centre=0.5 + (shown.centre - 0.5).clamp(-room, room))


def as_portraits(shown: Scenes, which: Tensor) -> Scenes:
    """The scenes, those of `which` (b,) as what people have of each other: a photograph of a face near enough."""

    def where(changed: Tensor, kept: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (kept.ndim - 1)), changed, kept)

    return replace(
        shown,
        style=where(torch.full_like(shown.style, DRAWN_STYLES.index("photo")), shown.style),
        hair_dye=where(torch.zeros_like(shown.hair_dye), shown.hair_dye),
        scale=where(shown.scale.clamp(min=PORTRAIT_SCALE), shown.scale),
        centre=where(0.5 + (shown.centre - 0.5).clamp(-PORTRAIT_ASIDE, PORTRAIT_ASIDE), shown.centre),
    )


def prompts(shown: Scenes, seed: int) -> list[str]:
    """A prompt for each scene: its caption, some in the words of the app's styles, some with words beside it."""
    chance = uniform(shown.texture, seed, "prompts", 2 + MOST_STRANGERS)
    texts = []
    for text, style, (app, strange, *which) in zip(captions(shown, seed), shown.style.tolist(), chance.tolist()):
        name = APP_STYLES.get(DRAWN_STYLES[style])
        if name and app < IN_APP_WORDS:
            text, _ = STYLES[name].apply(text, "")
        if strange < WITH_STRANGERS:
            text = f"{text}, {_strangers(which)}"
        texts.append(text)
    return texts


def nothing_said() -> list[str]:
    """Texts that ask for nothing, as negative prompts are: no words at all, the app's own, some of its words."""
    own = [part.strip() for part in DEFAULT_NEGATIVE_PROMPT.split(",")]
    chance = uniform(torch.arange(12), 0, "nothing", MOST_STRANGERS).tolist()
    return ["", DEFAULT_NEGATIVE_PROMPT, ", ".join(own[:5]), ", ".join(own[5:]), *map(_strangers, chance)]


def _strangers(chance: Sequence[float]) -> str:
    """A few words of no caption."""
    count = 1 + int(chance[0] * len(chance))
    return " ".join(STRANGE_WORDS[int(one * len(STRANGE_WORDS))] for one in chance[-count:])
