"""What is said of the finished bundle, and what it is shown with: card, description, example portraits, sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from instantid.bundle import readable_size
from instantid.messages import user_error
from instantid.small_base import write_json
from training.face_world import people, render, seeds
from training.face_world import scenes as scenes_of
from training.face_world.scene import EXPRESSIONS
from training.small_bundle.sheet import as_pil
from training.small_bundle.world import LEAST_FACE, as_portraits, nearer

MOST_BYTES, MOST_BYTES_OF_A_FILE = 45_000_000, 15_000_000
MOST_ROWS = 100  # of a log
EXAMPLES, EXAMPLE_SIZE = 5, 192  # people, pixels
EXAMPLE_FACE = 0.6  # of the height: who draws from a portrait alone gets a face of this size
EXAMPLE_PEOPLE, EXAMPLE_SCENES = 10_000, 20_000  # first of their numbers
PICTURES = ("1", "2")  # of each person: the portrait that is drawn from, and one to compare with

DESCRIPTION = {
    "es": "Modelo pequeño de personas dibujadas (128×128), entrenado desde cero: enseña cómo funciona, no hace fotos",
    "en": "Small model of drawn people (128×128), trained from nothing: to see how things work, not for photographs",
}
# What its page offers to draw, and the README shows.
PROMPTS = (
    "a photo of a person on a beach, smiling",
    "a watercolour painting of a person in a garden",
    "an ink drawing of a person in a library, looking surprised",
    "a comic book panel of a person in a city at night",
    "an oil painting of a person in the mountains, with a happy smile",
    "a pixel art portrait of a person in a desert, laughing",
)
CARD = """# InstantID in small

A whole InstantID in {size}: base model, IdentityNet, adapter and face pack, every part trained from nothing on drawn
people. It draws a person from one picture of them, in another pose, style and place, 128 × 128 pixels, in seconds on a
processor. It has the layout of the published weights and goes through the same code.

## What it knows

People, places and styles of the *face world*, a renderer that comes with the project. Say in English, in simple words:

- a style: photo, watercolour, ink drawing, comic, neon, film noir, pencil, pixel art, oil painting, old photograph;
- a place: studio, beach, forest, city at night, snow, desert, library, space, garden, rain, mountains, under water;
- an expression: neutral, smiling, laughing, surprised, sad, angry, winking;
- clothes, hats, scarves and headphones, the colour of dyed hair, the light.

## Limits

- It has never seen a photograph. Photographs of real people are neither recognised nor drawn.
- Pictures are 128 × 128 pixels; other sizes were not trained.
- A face fills at least {least_face:.0%} of the picture's height: smaller ones were not trained.
- Words of other languages and other things mean nothing to it.

## Training

One command, `python -m training.small_bundle --output RUN`, in stages of eight minutes at most on one NVIDIA H100.
Every example is a function of its number, and so is who is in it: the people in `examples/`, and those that figures are
measured with, were never trained on. What networks did on the way stands in `logs/`.

1. Face pack: a detector of SCRFD's form, a recogniser of ArcFace's form.
2. Autoencoder: {latent_channels} latent channels, an eighth of the picture's side.
3. Base: two text encoders and a UNet of SDXL's conditioning, noise prediction.
4. Identity, base frozen: IdentityNet and a Resampler with {heads} heads. Embedding of one picture of a person, key
   points and caption of another one, noise prediction, conditions dropped at random. Beside that, some predictions of
   each step are decoded and shown to the recogniser, which says how alike their faces are.
5. Judges (`scoring/`), which only look at finished pictures: a second recogniser, a classifier of traits.

{figures}## Licence

Code and weights: Apache-2.0. Nothing in them comes from other models or from pictures of people.
"""


@dataclass(frozen=True)
class FileSize:
    """One file of a bundle."""

    name: str  # in the bundle
    bytes: int


def write_card(bundle: Path, latent_channels: int, heads: int, figures: str = "") -> None:
    """Write `README.md`, `bundle.json` and `examples/`.

    Args: figures: what was measured, in Markdown with its heading.
    """
    write_examples(bundle / "examples")
    write_json(
        bundle / "bundle.json",
        {"name": "small", "description": DESCRIPTION, "weights": "drawn people", "prompts": PROMPTS},
    )
    card = CARD.format(
        size=readable_size(sum(file.bytes for file in files_of(bundle))),
        latent_channels=latent_channels,
        least_face=LEAST_FACE,
        heads=heads,
        figures=f"{figures.strip()}\n\n" if figures else "",
    )
    (bundle / "README.md").write_text(card, encoding="utf-8")


def write_logs(run: Path, bundle: Path) -> None:
    """`logs/`: a row for every so many steps of each network, as far as the run has them."""
    for file in sorted(run.glob("*/log.jsonl")) + sorted(run.glob("face_pack/*/log.jsonl")):
        copy = bundle / "logs" / f"{file.parent.name}.jsonl"
        copy.parent.mkdir(exist_ok=True)
        rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
        every = -(-len(rows) // MOST_ROWS)
        copy.write_text("".join(rows[every - 1 :: every]), encoding="utf-8")


def write_examples(folder: Path) -> None:
    """A folder for each of a few people who were never trained on: a portrait, and another picture to compare with."""
    persons = people(range(EXAMPLE_PEOPLE, EXAMPLE_PEOPLE + EXAMPLES), seeds.WATCHED).repeat_interleave(
        len(PICTURES), 0
    )
    scenes = nearer(scenes_of(range(EXAMPLE_SCENES, EXAMPLE_SCENES + len(persons)), seeds.WATCHED))
    shown = as_portraits(scenes, torch.ones(len(persons), dtype=torch.bool))
    calm = torch.arange(len(persons)) % len(PICTURES) == 0
    neutral = torch.full_like(shown.expression, EXPRESSIONS.index("neutral"))
    expression = torch.where(calm, neutral, shown.expression)
    shown = replace(shown, expression=expression, scale=shown.scale.clamp(min=EXAMPLE_FACE))
    for number, picture in enumerate(render(persons, shown, EXAMPLE_SIZE).picture):
        person, which = divmod(number, len(PICTURES))
        place = folder / f"person-{person + 1}"
        place.mkdir(parents=True, exist_ok=True)
        as_pil(picture).save(place / f"{PICTURES[which]}.png", optimize=True)


def files_of(bundle: Path) -> list[FileSize]:
    """Every file, the largest first."""
    files = [path for path in bundle.rglob("*") if path.is_file()]
    sizes = [FileSize(path.relative_to(bundle).as_posix(), path.stat().st_size) for path in files]
    return sorted(sizes, key=lambda file: -file.bytes)


def check_sizes(bundle: Path) -> None:
    """Raises: UserError if the bundle is too large to be shipped, or one of its files."""
    files = files_of(bundle)
    total = sum(file.bytes for file in files)
    for name, size, most in ((".", total, MOST_BYTES), (files[0].name, files[0].bytes, MOST_BYTES_OF_A_FILE)):
        if size > most:
            raise user_error("training.bundle_too_large", file=name, size=readable_size(size), most=readable_size(most))
